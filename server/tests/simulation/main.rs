//! The whole server in a seeded simulation: two shards, the real client library, a network that drops and delays, a disk that
//! fails and loses power. A checker judges what the clients saw, and a ledger what the members of a group and the server said.
//!
//! `LEVADA_SIM_SEEDS=1000` runs that many seeds, from `LEVADA_SIM_FROM` on; `LEVADA_SIM_SEED=17` replays one with logs. A
//! process keeps some megabytes of each seed: run thousands in portions.
#![expect(clippy::print_stderr, reason = "a failing seed must be named")]

#[path = "../cast/mod.rs"]
mod cast;
mod groups;
mod history;
#[cfg(test)]
mod levels;
mod net;
mod platform;
mod random;
mod run;
#[cfg(test)]
mod scenarios;
mod trace;
mod workload;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use levada_server::config::Defects;

use crate::run::{Verdict, run};

const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs seeds on two threads until all are done or `enough` says so.
fn run_seeds(count: u64, defects: Defects, enough: impl Fn(u64, &Verdict) -> bool + Sync) -> Vec<(u64, Verdict)> {
    let first = number("LEVADA_SIM_FROM").unwrap_or(0);
    let end = first + count;
    let (next, done) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if end <= seed {
                        return;
                    }
                    let verdict = run(seed, defects);
                    if enough(seed, &verdict) {
                        next.store(end, Ordering::Relaxed);
                    }
                    done.lock().expect("a seed that panics is reported by its thread").push((seed, verdict));
                }
            });
        }
    });
    done.into_inner().expect("a seed that panics is reported by its thread")
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("LEVADA_SIM_SEED") {
        let filter = std::env::var("LEVADA_LOG").unwrap_or_else(|_| "info".into());
        let _already = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let verdict = run(seed, Defects::default());
        assert_eq!(verdict.broken, Vec::<String>::new(), "seed {seed}");
        return;
    }
    let count = number("LEVADA_SIM_SEEDS").unwrap_or(SEEDS);
    let verdicts = run_seeds(count, Defects::default(), |_, _| false);
    let failed: Vec<_> = verdicts.iter().filter(|(_, verdict)| !verdict.broken.is_empty()).collect();
    for (seed, verdict) in &failed {
        eprintln!("LEVADA_SIM_SEED={seed}: {:#?}", verdict.broken);
    }
    assert!(failed.is_empty(), "{} of {count} seeds broke a promise", failed.len());
    // The runs must be worth something: work was done and there was trouble.
    let acked: usize = verdicts.iter().map(|(_, verdict)| verdict.acked_count).sum();
    let crashes: u64 = verdicts.iter().map(|(_, verdict)| verdict.crash_count).sum();
    let truncated: u64 = verdicts.iter().map(|(_, verdict)| verdict.truncated_count).sum();
    let commits: u64 = verdicts.iter().map(|(_, verdict)| verdict.counts.taken).sum();
    let fenced: u64 = verdicts.iter().flat_map(|(_, verdict)| verdict.counts.fenced.values()).sum();
    eprintln!("{count} seeds, {acked} acknowledged messages, {crashes} power cuts, {truncated} losses told");
    eprintln!("{commits} commits of groups, {fenced} stale ones refused");
    assert!(count < 20 || (5 * count <= commits && count <= fenced), "{commits} commits, {fenced} refused");
    assert!(count < 20 || (20 * count <= acked as u64 && count <= crashes), "{acked} acknowledged, {crashes} crashes");
    assert!(count < 200 || 0 < truncated, "no consumer of a topic with durability memory was told of a loss");
}

#[test]
fn a_seed_is_a_run() {
    let fingerprints = || {
        let mut verdicts = run_seeds(number("LEVADA_SIM_SEEDS").unwrap_or(40), Defects::default(), |_, _| false);
        verdicts.sort_by_key(|(seed, _)| *seed);
        verdicts.into_iter().map(|(seed, verdict)| (seed, verdict.fingerprint)).collect::<Vec<_>>()
    };
    let (one, other) = (fingerprints(), fingerprints());
    let differ: Vec<_> = one.iter().zip(&other).filter(|(one, other)| one != other).map(|(one, _)| one.0).collect();
    assert!(differ.is_empty(), "seeds {differ:?} did not repeat");
    for (seed, (_, event_count)) in one {
        assert!(100 < event_count, "seed {seed}: a run of {event_count} events shows nothing");
    }
    assert_ne!(run(3, Defects::default()).fingerprint, run(7, Defects::default()).fingerprint);
}

#[test]
fn a_server_that_acknowledges_too_early_is_caught() {
    let defects = Defects { ack_before_durable: true };
    let verdicts = run_seeds(60, defects, |_, verdict| !verdict.broken.is_empty());
    let caught = verdicts.iter().flat_map(|(_, verdict)| &verdict.broken).any(|text| text.contains("is lost"));
    assert!(caught, "{} seeds and no message was lost", verdicts.len());
}
