//! Streams the rows of a CSV file as JSON, keyed by one column, into 8 partitions, reads them back, and compares both: the
//! same messages, each as often as it was sent, and in the same order per key.
//!
//! `cargo run --release -p levada --example flights -- flights.csv [stream/topic [key column]]`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use levada::{Client, ClientOptions, ConsumerOptions, Message, Position, ProducerOptions};

const PARTITIONS: u32 = 8;

/// Payloads in order, by key.
type ByKey = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: flights CSV [STREAM/TOPIC [KEY]]")?;
    let topic = arguments.next().unwrap_or_else(|| "nyc/flights".to_owned());
    let key = arguments.next().unwrap_or_else(|| "carrier".to_owned());

    let client = Client::connect(ClientOptions::new()).await?;
    client.admin().create_topic(&topic, levada::topic_options(PARTITIONS)).await?;

    let begin = now();
    let sent = produce(&client, &topic, &path, &key).await?;
    say(&format!("produced {} messages of {} keys in {:?}", count(&sent), sent.len(), begin.elapsed()));

    let begin = now();
    let read = consume(&client, &topic).await?;
    say(&format!("consumed {} messages in {:?}", count(&read), begin.elapsed()));
    client.close(Duration::from_secs(10)).await?;

    // Equal sequences for every key: nothing is missing, doubled or out of order.
    if sent != read {
        return Err("what was read is not what was sent".into());
    }
    say("identical, and in order per key");
    Ok(())
}

async fn produce(client: &Client, topic: &str, path: &str, key: &str) -> Result<ByKey, Box<dyn Error>> {
    let mut reader = csv::Reader::from_path(path)?;
    let names = reader.headers()?.clone();
    let key_column = names.iter().position(|name| name == key).ok_or_else(|| format!("there is no column {key:?}"))?;
    let producer = client.producer(topic, ProducerOptions::new()).await?;
    let mut sent = ByKey::new();
    for row in reader.records() {
        let row = row?;
        let object: serde_json::Map<String, serde_json::Value> =
            names.iter().zip(&row).map(|(name, value)| (name.to_owned(), value.into())).collect();
        let payload = serde_json::to_vec(&object)?;
        let key = row[key_column].as_bytes().to_vec();
        // The delivery is dropped: closing waits for all of them and tells the first failure.
        drop(producer.enqueue(Message::new(payload.clone()).key(key.clone())).await?);
        sent.entry(key).or_default().push(payload);
    }
    producer.close(Duration::from_secs(60)).await?;
    Ok(sent)
}

async fn consume(client: &Client, topic: &str) -> Result<ByKey, Box<dyn Error>> {
    let consumer = client.consumer(ConsumerOptions::new(topic).from(Position::EARLIEST).until_end()).await?;
    let mut read = ByKey::new();
    while let Some(batch) = consumer.next_batch().await? {
        for message in batch.messages() {
            let key = message.key.unwrap_or_default().to_vec();
            read.entry(key).or_default().push(message.payload.unwrap_or_default().to_vec());
        }
    }
    Ok(read)
}

fn count(messages: &ByKey) -> usize {
    messages.values().map(Vec::len).sum()
}

#[expect(clippy::disallowed_methods, reason = "an example measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn say(line: &str) {
    use std::io::Write as _;
    // A reader that went away is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}
