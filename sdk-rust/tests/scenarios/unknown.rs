//! Answers that never come: one in five acknowledgements is lost, with its connection or in silence. With numbers every
//! message is stored exactly once; without, at least once by a caller that repeats what is unknown, and what was reported
//! as definitely failed is never found.

use std::time::Duration;

use levada::{Message, Producer, ProducerOptions};

use crate::stage::{Act, Stage, TOPIC};

const MESSAGES: u64 = 100;
const SEEDS: u64 = 40;

/// SplitMix64: whether the answer to a request is lost, and how.
fn act(state: &mut u64) -> Act {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    match (mixed ^ (mixed >> 27)) % 10 {
        0 => Act::CutAfter,
        // Longer than anybody waits.
        1 => Act::Late(Duration::from_secs(3600)),
        _ => Act::Behave,
    }
}

async fn open(seed: u64, options: ProducerOptions) -> (Stage, Producer) {
    let stage = Stage::new(1);
    let mut state = seed;
    stage.script((0..20 * MESSAGES).map(|_| act(&mut state)));
    let client = stage.client().await;
    let options = options.batch_messages(3).delivery_timeout(Duration::from_secs(3_000));
    let producer = client.producer(TOPIC, options).await.unwrap();
    (stage, producer)
}

fn texts() -> Vec<String> {
    (0..MESSAGES).map(|number| format!("{number:04}")).collect()
}

#[tokio::test(start_paused = true)]
async fn with_numbers_every_message_is_stored_exactly_once() {
    for seed in 0..SEEDS {
        for options in [ProducerOptions::new(), ProducerOptions::new().name("n")] {
            let (stage, producer) = open(seed, options).await;
            let mut deliveries = Vec::new();
            for text in texts() {
                deliveries.push(producer.enqueue(text).await.unwrap());
            }
            for (number, delivery) in (0u64..).zip(deliveries) {
                assert_eq!(delivery.await.unwrap().offset, Some(number), "seed {seed}");
            }
            assert_eq!(stage.payloads(0), texts(), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sequences_of_the_application_are_stored_exactly_once() {
    for seed in 0..SEEDS {
        let (stage, producer) = open(seed, ProducerOptions::new().name("n").external_sequence(true)).await;
        let mut deliveries = Vec::new();
        for (number, text) in (0u64..).zip(texts()) {
            let message = Message::new(text).partition(0).sequence(10 * number + number % 3);
            deliveries.push(producer.enqueue(message).await.unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        assert_eq!(stage.payloads(0), texts(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_numbers_nothing_is_lost_and_no_definite_failure_is_found() {
    let mut unknown_count = 0;
    for seed in 0..SEEDS {
        let (stage, producer) = open(seed, ProducerOptions::new().idempotent(false)).await;
        for text in texts() {
            loop {
                let Err(error) = producer.send(text.as_str()).await else { break };
                unknown_count += 1;
                let found = stage.payloads(0).contains(&text);
                assert!(error.maybe_applied() || !found, "seed {seed}: {text} was told not to be stored: {error}");
            }
        }
        let stored = stage.payloads(0);
        assert!(stored.is_sorted(), "seed {seed}");
        let mut once = stored.clone();
        once.dedup();
        assert_eq!(once, texts(), "seed {seed}: at least once each");
        assert!(once.len() < stored.len(), "seed {seed}: what is unknown was stored, and stored again");
    }
    assert!(SEEDS * MESSAGES / 10 < unknown_count, "{unknown_count}");
}
