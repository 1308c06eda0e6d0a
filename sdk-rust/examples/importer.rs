//! Sends the lines of a file, each once however often it is started. docs/exactly-once.md shows the body.
//!
//! `cargo run -p levada --example importer orders.txt`, after `levada topic create shop/orders`.
#![expect(clippy::print_stdout, reason = "it has something to say")]

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use levada::{Client, ClientOptions, Message, ProducerOptions};

    let text = std::fs::read_to_string(std::env::args().nth(1).ok_or("which file?")?)?;
    let lines = (0u64..).zip(text.lines().map(str::to_owned));
    let client = Client::connect(ClientOptions::new()).await?;

    let options = ProducerOptions::new().name("importer").external_sequence(true);
    let producer = client.producer("shop/orders", options).await?;
    let done = producer.last_sequence(0);
    for (line, text) in lines {
        if done.is_none_or(|done| done < line) {
            producer.send(Message::new(text).partition(0).sequence(line)).await?;
        }
    }
    println!("began after line {done:?}");
    Ok(())
}
