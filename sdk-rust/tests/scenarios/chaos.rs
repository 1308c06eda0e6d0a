//! Random faults, many seeds: whatever the server and the network do within the rules, each message's fate is told exactly
//! once; what is acknowledged is stored once, at the offset told, in the order of hand-over; what fails is stored at most
//! once, and not at all if the error says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use levada::{BatchEvent, CompletionSink, Delivery, Error, ErrorCode, Message, ProducerOptions, Receipt};

use crate::stage::{Act, Stage, TOPIC};

const PARTITIONS: u32 = 3;
const MESSAGES: u64 = 60;
const SEEDS: u64 = 300;

/// SplitMix64: enough to pick from.
struct Dice(u64);

impl Dice {
    /// 0 to `sides` - 1.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()].clone()
    }

    fn act(&mut self, calm: u64) -> Act {
        let refusals =
            [ErrorCode::Overloaded, ErrorCode::DiskFull, ErrorCode::PartitionUnavailable, ErrorCode::MalformedBatch];
        match self.roll(7 + calm) {
            0 => Act::CutBefore,
            1 => Act::CutAfter,
            2 => Act::Refuse(self.pick(&refusals), vec![]),
            3 => Act::Ignore,
            4 => Act::FailUnknown,
            5 => Act::Forget,
            6 => Act::Late(Duration::from_millis(self.roll(5000))),
            _ => Act::Behave,
        }
    }
}

/// Partition and offset, or why not.
type Fate = Result<(u32, u64), Error>;

/// What the completions told: one fate per token, and how many places are set aside.
#[derive(Default)]
struct Fates {
    told: Mutex<BTreeMap<u64, Vec<Fate>>>,
    places: Mutex<i64>,
}

impl CompletionSink for Fates {
    fn try_reserve(&self) -> bool {
        *self.places.lock().unwrap() += 1;
        true
    }

    fn release(&self) {
        *self.places.lock().unwrap() -= 1;
    }

    fn complete(&self, event: BatchEvent) {
        for (index, token) in (0u64..).zip(event.tokens) {
            let fate = event.outcome.clone().map(|receipt| (receipt.partition, receipt.base_offset.unwrap() + index));
            self.told.lock().unwrap().entry(token).or_default().push(fate);
            // A message that is awaited has no place in the queue, and no token.
            *self.places.lock().unwrap() -= i64::from(token != levada::NO_TOKEN);
        }
    }
}

/// How the fate of a message is told.
enum Told {
    /// By its delivery.
    Delivery(Delivery),
    /// By a completion with its number as the token.
    Completion,
}

/// Sends messages through trouble, and tells what was stored of them and what was said about them.
async fn one(seed: u64) -> usize {
    let mut dice = Dice(seed);
    let calm = dice.pick(&[0, 6, 30]);
    let stage = Stage::new(PARTITIONS as usize);
    let client = stage.client().await;
    let fates = Arc::new(Fates::default());
    let options = ProducerOptions::new()
        .batch_messages(1 + usize::try_from(dice.roll(4)).unwrap())
        .max_in_flight(1 + usize::try_from(dice.roll(5)).unwrap())
        .linger(Duration::from_millis(dice.roll(3)))
        .delivery_timeout(Duration::from_secs(1 + dice.roll(120)))
        .completion_sink(Arc::clone(&fates) as Arc<dyn CompletionSink>);
    let options = if dice.roll(3) == 0 { options.name("chaos") } else { options };
    let producer = client.producer(TOPIC, options).await.unwrap();
    let mut sent: Vec<(u32, Told)> = Vec::new();
    for number in 0..MESSAGES {
        stage.script([dice.act(calm)]);
        let partition = u32::try_from(dice.roll(u64::from(PARTITIONS))).unwrap();
        let message = Message::new(format!("{number:03}")).partition(partition);
        let told = if dice.roll(2) == 0 {
            Told::Delivery(producer.enqueue(message).await.unwrap())
        } else {
            producer.try_send(message, number).unwrap();
            Told::Completion
        };
        sent.push((partition, told));
        match dice.roll(8) {
            0 => stage.cut(),
            1 | 2 => tokio::time::sleep(Duration::from_millis(dice.roll(40))).await,
            3 => tokio::time::sleep(Duration::from_secs(dice.roll(20))).await,
            _ => {}
        }
    }
    // Its outcome is that of the messages, which are looked at one by one.
    let _ = producer.close(Duration::from_secs(1000)).await;

    let stored: Vec<Vec<String>> = (0..PARTITIONS).map(|partition| stage.payloads(partition)).collect();
    for payloads in &stored {
        assert!(payloads.is_sorted_by(|one, next| one < next), "seed {seed}: each once and in order: {payloads:?}");
    }
    let mut completions = std::mem::take(&mut *fates.told.lock().unwrap());
    completions.remove(&levada::NO_TOKEN);
    assert_eq!(*fates.places.lock().unwrap(), 0, "seed {seed}: each place that was set aside is given back");
    let mut acknowledged_count = 0;
    for (number, (partition, told)) in (0u64..).zip(sent) {
        let text = format!("{number:03}");
        let fate = match told {
            Told::Delivery(delivery) => delivery.try_receipt().map(|fate| fate.map(place)),
            Told::Completion => {
                let mut fates = completions.remove(&number).unwrap_or_default();
                assert!(fates.len() < 2, "seed {seed}: {text} was completed more than once: {fates:?}");
                fates.pop()
            }
        };
        let payloads = &stored[partition as usize];
        match fate.unwrap_or_else(|| panic!("seed {seed}: the fate of {text} is not known after close")) {
            Ok((of_partition, offset)) => {
                acknowledged_count += 1;
                assert_eq!(of_partition, partition, "seed {seed}: {text}");
                let found = payloads.get(usize::try_from(offset).unwrap());
                assert_eq!(found, Some(&text), "seed {seed}: acknowledged at {offset} of {partition}");
            }
            Err(error) if !error.maybe_applied() => {
                assert!(!payloads.contains(&text), "seed {seed}: {text} was reported as not applied: {error}");
            }
            Err(_) => {}
        }
    }
    assert!(completions.is_empty(), "seed {seed}: completions of nothing that was sent: {completions:?}");
    acknowledged_count
}

fn place(receipt: Receipt) -> (u32, u64) {
    (receipt.partition, receipt.offset.unwrap())
}

#[tokio::test(start_paused = true)]
async fn random_faults_never_lose_double_or_reorder() {
    let mut acknowledged_count = 0;
    for seed in 0..SEEDS {
        acknowledged_count += one(seed).await;
    }
    let sent_count = usize::try_from(SEEDS * MESSAGES).unwrap();
    assert!(sent_count / 3 < acknowledged_count, "{acknowledged_count} of {sent_count} were acknowledged");
}
