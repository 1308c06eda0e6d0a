//! Scenarios of topics that ask for a codec: what is stored, what receipts say, order, retries, bombs, ends.

mod broker_world;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use broker_world::*;
use bytes::Bytes;
use levada_protocol::batch::Message;
use levada_protocol::batch::*;
use levada_protocol::messages::*;
use levada_server::env::{BlockingJob, Offload};
use levada_server::metadata::{Compression, TopicOptions};

/// Keeps jobs back until they are asked for.
#[derive(Default)]
struct Gate(Mutex<VecDeque<BlockingJob>>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Gate")
    }
}

impl Offload for Gate {
    fn run(&self, job: BlockingJob) {
        self.0.lock().expect("the scenario holds").push_back(job);
    }
}

impl Gate {
    fn len(&self) -> usize {
        self.0.lock().expect("the scenario holds").len()
    }

    async fn wait(&self, jobs: usize) {
        while self.len() < jobs {
            tokio::task::yield_now().await;
        }
    }

    fn run_last(&self) {
        let job = self.0.lock().expect("the scenario holds").pop_back();
        job.expect("a job waits")();
    }

    fn run_first(&self) {
        let job = self.0.lock().expect("the scenario holds").pop_front();
        job.expect("a job waits")();
    }
}

fn stored_as(compression: Compression) -> TopicOptions {
    TopicOptions { compression, ..topic_options(1) }
}

fn sealed(codec: Codec) -> SealOptions {
    SealOptions { codec, ..SealOptions::default() }
}

fn numbered(codec: Codec, first_sequence: u64) -> SealOptions {
    SealOptions { codec, producer_id: 9, producer_epoch: 1, first_sequence, ..SealOptions::default() }
}

const TEXT: &str = "a text that says the same again and again, again and again, again and again, again and again";

async fn gated() -> (Arc<Gate>, std::rc::Rc<World>) {
    let gate = Arc::new(Gate::default());
    let offload = Arc::<Gate>::clone(&gate);
    (gate, World::with(WorldOptions { offload, ..WorldOptions::default() }).await)
}

/// Producer parts and messages of what is stored.
async fn stored(client: &mut Client, topic: u32) -> Vec<(ProducerHeader, Vec<Message>)> {
    let (_, mut body) = client.call_with(&from_start(topic, 0), Vec::new()).await.expect("the scenario holds");
    let mut found = Vec::new();
    while let Some(batch) = StoredBatch::split_first(&mut body).expect("the scenario holds") {
        batch.verify().expect("the scenario holds");
        found.push((*batch.header(), batch.messages().expect("the scenario holds").map(Result::unwrap).collect()));
    }
    found
}

/// A batch of one message that expands to almost as much as any may.
fn expanding() -> Bytes {
    let mut state = 1_u64;
    let mut payload: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(64 << 10)
    .collect();
    payload.resize((16 << 20) - 200, 0);
    let mut builder = BatchBuilder::new(BatchLimits::default());
    builder.push(&NewMessage { payload: Some(&payload), ..NewMessage::default() }).expect("the scenario holds");
    let batch = builder.seal(&sealed(Codec::Zstd)).expect("the scenario holds");
    assert!(batch.len() < 128 << 10);
    batch
}

#[test]
fn a_topics_codec_is_what_is_stored_and_the_receipt_says_what_was_done() {
    scenario(async {
        let world = World::new().await;
        let mut client = world.client().await;
        let wishes =
            [(Compression::None, Codec::None), (Compression::Lz4, Codec::Lz4), (Compression::Zstd, Codec::Zstd)];
        for (policy, wanted) in wishes {
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
                let topic = world.topic_with(stored_as(policy)).await;
                let batch = client.batch(&[TEXT, "", TEXT], numbered(codec, 0));
                let sent = verify_producer(&batch).unwrap();
                let ack = client.produce_batch(topic, 0, batch).await.unwrap();
                let (header, messages) = stored(&mut client, topic).await.remove(0);
                let texts: Vec<_> =
                    messages.iter().map(|message| message.payload.as_deref().unwrap_or_default()).collect();
                assert_eq!(texts, [TEXT.as_bytes(), b"", TEXT.as_bytes()]);
                // lz4 and zstd never make a batch larger: of a text as short as this, lz4 makes less.
                let stays = codec == wanted || (codec, wanted) == (Codec::Lz4, Codec::Zstd);
                let anew = header.codec != sent.codec;
                assert_eq!((anew, header.codec), (!stays, if stays { codec } else { wanted }), "{codec} to {wanted}");
                assert_eq!(ack.flags, if anew { PRODUCE_ACK_SERVER_ENCODED } else { 0 });
                let flags = if anew { FLAG_SERVER_ENCODED } else { 0 };
                let same = ProducerHeader {
                    crc: header.crc,
                    codec: header.codec,
                    body_length: header.body_length,
                    flags,
                    ..sent
                };
                assert_eq!(header, same);
            }
        }
    });
}

#[test]
fn what_would_not_shrink_stays_and_a_changed_wish_holds_for_what_comes() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic_with(stored_as(Compression::Zstd)).await;
        let mut client = world.client().await;
        assert_eq!(client.produce(topic, 0, &["abc"]).await.unwrap().flags, 0);
        assert_eq!(client.produce(topic, 0, &[TEXT, TEXT]).await.unwrap().flags, PRODUCE_ACK_SERVER_ENCODED);
        world.alter_topic(topic, stored_as(Compression::Lz4)).await;
        // What zstd makes of many numbers is less than lz4 can.
        let numbers: Vec<_> = (0..1000).map(|number| format!("{{\"number\": {}}}", number * 7919 % 10_000)).collect();
        let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
        let small = client.batch(&numbers, sealed(Codec::Zstd));
        assert_eq!(client.produce_batch(topic, 0, small).await.unwrap().flags, 0);
        world.alter_topic(topic, stored_as(Compression::Producer)).await;
        assert_eq!(client.produce(topic, 0, &[TEXT, TEXT]).await.unwrap().flags, 0);
        let codecs: Vec<_> = stored(&mut client, topic).await.iter().map(|(header, _)| header.codec).collect();
        assert_eq!(codecs, [Codec::None, Codec::Zstd, Codec::Zstd, Codec::None]);
    });
}

#[test]
fn a_retry_of_a_batch_that_was_encoded_anew_finds_its_original() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic_with(stored_as(Compression::Zstd)).await;
        let mut client = world.client().await;
        let batch = client.batch(&[TEXT, TEXT], numbered(Codec::None, 0));
        let next = client.batch(&[TEXT], numbered(Codec::Lz4, 2));
        let first = client.produce_batch(topic, 0, batch.clone()).await.unwrap();
        assert_eq!(client.produce_batch(topic, 0, next).await.unwrap().base_offset, 2);
        let again = client.produce_batch(topic, 0, batch).await.unwrap();
        assert_eq!((again.base_offset, again.append_time_us), (first.base_offset, first.append_time_us));
        assert_eq!(again.flags, PRODUCE_ACK_SERVER_ENCODED | PRODUCE_ACK_DUPLICATE);
        assert_eq!(stored(&mut client, topic).await.len(), 2);
        let gap = client.batch(&[TEXT], numbered(Codec::None, 7));
        assert_eq!(code(&client.produce_batch(topic, 0, gap).await.unwrap_err()), "SEQUENCE_GAP");
    });
}

#[test]
fn batches_keep_their_order_whichever_is_done_first_and_other_partitions_go_on() {
    scenario(async {
        let (gate, world) = gated().await;
        let (asking, other) = (world.topic_with(stored_as(Compression::Zstd)).await, world.topic(1).await);
        let mut client = world.client().await;
        let mut asked = Vec::new();
        for (sequence, codec) in [(0, Codec::None), (1, Codec::Zstd), (2, Codec::None), (3, Codec::None)] {
            let text = format!("{sequence}{TEXT}{TEXT}");
            let batch = client.batch(&[&text], numbered(codec, sequence));
            asked.push(client.send_produce(asking, 0, batch));
        }
        // The same connection, another partition: not held up.
        assert_eq!(client.produce(other, 0, &["x"]).await.unwrap().base_offset, 0);
        gate.wait(3).await;
        gate.run_last();
        gate.run_last();
        assert!(client.hears_nothing().await, "the first is not encoded yet");
        gate.run_first();
        for (offset, asked) in asked.into_iter().enumerate() {
            let (ack, _) = client.answer::<ProduceAck>(asked).await.unwrap();
            assert_eq!(ack.base_offset, offset as u64);
        }
        let found = stored(&mut client, asking).await;
        let first: Vec<_> = found.iter().map(|(_, messages)| messages[0].payload.as_ref().unwrap()[0]).collect();
        assert_eq!(first, *b"0123");
        assert!(found.iter().all(|(header, _)| header.codec == Codec::Zstd));
    });
}

#[test]
fn what_does_not_decompress_is_refused_and_nothing_is_appended() {
    scenario(async {
        let world = World::new().await;
        let topic = world.topic_with(stored_as(Compression::None)).await;
        let mut client = world.client().await;
        // Small bodies that go on for longer than they say: lz4 by a long match, zstd by blocks beyond its declared size.
        let long_match = [&[0x1f, 0, 1, 0][..], &[255; 16], &[0, 0]].concat();
        let mut long_frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f];
        for number in 0..256_u32 {
            let [low, middle, high, _] = (4096 << 3 | 1 << 1 | u32::from(number == 255)).to_le_bytes();
            long_frame.extend_from_slice(&[low, middle, high, 7]);
        }
        let ratio = zstd_of_zeros();
        for (codec, body, length) in
            [(Codec::Lz4, &long_match, 64), (Codec::Zstd, &long_frame, 4096), (Codec::Zstd, &ratio, 1 << 20)]
        {
            let template = client.batch(&[TEXT], numbered(Codec::None, 0));
            let header = ProducerHeader::parse(&template).unwrap();
            let body_length = u32::try_from(body.len()).unwrap();
            let mut batch = [&[0; PRODUCER_PART_BYTES][..], body].concat();
            ProducerHeader { codec, body_length, uncompressed_length: length, ..header }.seal(&mut batch);
            let error = client.produce_batch(topic, 0, batch.into()).await.unwrap_err();
            assert_eq!((code(&error), error.maybe_applied()), ("MALFORMED_BATCH", false), "{codec}");
        }
        let good = client.batch(&[TEXT], numbered(Codec::Zstd, 0));
        assert_eq!(client.produce_batch(topic, 0, good).await.unwrap().base_offset, 0);
        assert_eq!(stored(&mut client, topic).await.len(), 1);
    });
}

/// 1 MiB of zeros in a few dozen bytes.
fn zstd_of_zeros() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x10, 0];
    for number in 0..8_u32 {
        let [low, middle, high, _] = (128 << 10 << 3 | 1 << 1 | u32::from(number == 7)).to_le_bytes();
        frame.extend_from_slice(&[low, middle, high, 0]);
    }
    frame
}

#[test]
fn batches_that_expand_wait_for_memory_before_they_do() {
    scenario(async {
        let (gate, world) = gated().await;
        let topic = world.topic_with(stored_as(Compression::None)).await;
        let mut client = world.client().await;
        let asked: Vec<_> = (0..8).map(|_| client.send_produce(topic, 0, expanding())).collect();
        client.flush().await;
        gate.wait(2).await;
        assert!(client.hears_nothing().await);
        assert_eq!(gate.len(), 2, "memory for two of the largest");
        for (offset, asked) in asked.into_iter().enumerate() {
            gate.wait(1).await;
            gate.run_first();
            let (ack, _) = client.answer::<ProduceAck>(asked).await.unwrap();
            assert_eq!((ack.base_offset, ack.flags), (offset as u64, PRODUCE_ACK_SERVER_ENCODED));
            assert!(gate.len() <= 2);
        }
    });
}

#[test]
fn a_connection_has_only_so_much_to_be_encoded() {
    scenario(async {
        let gate = Arc::new(Gate::default());
        let mut options = WorldOptions { offload: Arc::<Gate>::clone(&gate), ..WorldOptions::default() };
        options.edge.connection_bytes = 64 << 10;
        let world = World::with(options).await;
        let topic = world.topic_with(stored_as(Compression::Zstd)).await;
        let mut client = world.client().await;
        let asked: Vec<_> = (0..12)
            .map(|_| {
                let batch = client.large_batch(4 << 10);
                client.send_produce(topic, 0, batch)
            })
            .collect();
        client.flush().await;
        gate.wait(4).await;
        assert!(client.hears_nothing().await);
        assert_eq!(gate.len(), 4, "a quarter of what a connection may take");
        for asked in asked {
            gate.wait(1).await;
            gate.run_first();
            client.answer::<ProduceAck>(asked).await.unwrap();
        }
    });
}

#[test]
fn a_batch_that_waits_to_be_encoded_is_answered_when_its_topic_goes_or_the_server_stops() {
    scenario(async {
        let (gate, world) = gated().await;
        let (gone, kept) =
            (world.topic_with(stored_as(Compression::Zstd)).await, world.topic_with(stored_as(Compression::Lz4)).await);
        let mut client = world.client().await;
        for (topic, expected) in [(gone, "TOPIC_NOT_FOUND"), (kept, "SHUTTING_DOWN")] {
            let batch = client.batch(&[TEXT, TEXT], sealed(Codec::None));
            let asked = client.send_produce(topic, 0, batch);
            client.flush().await;
            gate.wait(1).await;
            if topic == gone {
                world.delete_topic(gone).await;
            } else {
                world.shards[0].close().await;
            }
            assert_eq!(code(&client.answer::<ProduceAck>(asked).await.unwrap_err()), expected);
            gate.run_first();
        }
    });
}
