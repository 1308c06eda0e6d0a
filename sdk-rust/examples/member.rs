//! Reads as a member of a consumer group. docs/groups.md shows the body.
//!
//! `cargo run -p levada --example member`; start a second one, and each has half of the partitions.
#![expect(clippy::print_stdout, reason = "it has something to say")]

#[tokio::main(flavor = "current_thread")]
async fn main() -> levada::Result<()> {
    use levada::{Client, ClientOptions, GroupConsumerOptions, Position};

    let client = Client::connect(ClientOptions::new()).await?;
    let options = GroupConsumerOptions::new("billing", ["shop/*"]).from(Position::EARLIEST);
    let consumer = client.group_consumer(options).await?;
    while let Some(message) = consumer.receive().await? {
        println!("{}:{} {:?}", message.topic, message.offset, message.payload);
    }
    Ok(())
}
