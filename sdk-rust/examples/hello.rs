//! Sends one message. The README shows the body.
//!
//! `cargo run -p levada --example hello`, after `levada topic create demo/greetings`.
#![expect(clippy::print_stdout, reason = "it has something to say")]

#[tokio::main(flavor = "current_thread")]
async fn main() -> levada::Result<()> {
    use levada::{Client, ClientOptions, Message, ProducerOptions};

    let client = Client::connect(ClientOptions::new()).await?;
    let producer = client.producer("demo/greetings", ProducerOptions::new()).await?;
    let receipt = producer.send(Message::new("hello").key("world")).await?;
    println!("offset {:?}, durability {:?}", receipt.offset, receipt.durability);
    Ok(())
}
