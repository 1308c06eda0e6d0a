//! Makes a topic, produces three messages, reads them back.
//!
//! `cargo run -p levada --example quickstart` finds a server on this machine by itself; `LEVADA_SERVER` and
//! `LEVADA_TOKEN_FILE` name another.

use std::time::Duration;

use levada::{Client, ClientOptions, ConsumerOptions, ErrorCode, Message, Position, ProducerOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> levada::Result<()> {
    let client = Client::connect(ClientOptions::new()).await?;
    match client.admin().create_topic("quick/start", levada::topic_options(1)).await {
        Err(error) if error.is(ErrorCode::AlreadyExists) => {}
        other => drop(other?),
    }

    let producer = client.producer("quick/start", ProducerOptions::new()).await?;
    for text in ["one spring", "many terraces", "one levada"] {
        let receipt = producer.send(Message::new(text).key("mountain")).await?;
        say(&format!("sent {text:?}: offset {:?}, durability {:?}", receipt.offset, receipt.durability));
    }
    producer.close(Duration::from_secs(10)).await?;

    let consumer = client.consumer(ConsumerOptions::new("quick/start").from(Position::last(3)).until_end()).await?;
    while let Some(message) = consumer.receive().await? {
        say(&format!(
            "read offset {}: {}",
            message.offset,
            String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default())
        ));
    }
    client.close(Duration::from_secs(10)).await
}

fn say(line: &str) {
    use std::io::Write as _;
    // A reader that went away is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}
