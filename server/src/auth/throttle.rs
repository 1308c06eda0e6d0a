//! Delay after wrong passwords, per peer and per account: it doubles with each failure up to a bound, and is never a lock,
//! which would be a gift to whoever wants to keep a user out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Delay after the second failure; the first one is a typing mistake.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay: well below the time a connection has to authenticate.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// Failures are forgotten after this long without another.
const MEMORY: Duration = Duration::from_secs(600);
/// Peers and accounts remembered; beyond it the longest idle is forgotten.
const MAX_ENTRIES: usize = 4096;

/// Who failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Peer(IpAddr),
    Account(String),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Failures so far.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    failures: BTreeMap<Source, Failures>,
}

impl Throttle {
    /// How long an attempt has to wait before it is looked at.
    pub(super) fn delay(&self, peer: IpAddr, account: &str, now: Instant) -> Duration {
        let delay = |source: &Source| {
            let live = self.failures.get(source).filter(|failures| now.duration_since(failures.last) < MEMORY);
            live.map_or(Duration::ZERO, |failures| match failures.count {
                0 | 1 => Duration::ZERO,
                count => FIRST_DELAY.saturating_mul(1 << (count - 2).min(16)).min(MAX_DELAY),
            })
        };
        delay(&Source::Peer(peer)).max(delay(&Source::Account(account.to_owned())))
    }

    /// A password was wrong.
    pub(super) fn failed(&mut self, peer: IpAddr, account: &str, now: Instant) {
        for source in [Source::Peer(peer), Source::Account(account.to_owned())] {
            self.make_room(&source);
            let failures = self.failures.entry(source).or_insert(Failures { count: 0, last: now });
            if MEMORY <= now.duration_since(failures.last) {
                failures.count = 0;
            }
            *failures = Failures { count: failures.count.saturating_add(1), last: now };
        }
    }

    /// A password was right.
    pub(super) fn succeeded(&mut self, peer: IpAddr, account: &str) {
        self.failures.remove(&Source::Peer(peer));
        self.failures.remove(&Source::Account(account.to_owned()));
    }

    fn make_room(&mut self, source: &Source) {
        if self.failures.len() < MAX_ENTRIES || self.failures.contains_key(source) {
            return;
        }
        let idle = self.failures.iter().min_by_key(|(_, failures)| failures.last).map(|(source, _)| source.clone());
        if let Some(idle) = idle {
            self.failures.remove(&idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delays_double_up_to_a_bound_and_are_forgotten() {
        let (mut throttle, peer) = (Throttle::default(), IpAddr::from([127, 0, 0, 1]));
        let mut delays = Vec::new();
        for _ in 0..9 {
            delays.push(throttle.delay(peer, "ann", Instant::now()).as_millis());
            throttle.failed(peer, "ann", Instant::now());
        }
        assert_eq!(delays, [0, 0, 100, 200, 400, 800, 1600, 2000, 2000]);
        let elsewhere = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(throttle.delay(elsewhere, "ann", Instant::now()), MAX_DELAY);
        assert_eq!(throttle.delay(elsewhere, "bob", Instant::now()), Duration::ZERO);
        tokio::time::advance(MEMORY).await;
        assert_eq!(throttle.delay(peer, "ann", Instant::now()), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_password_ends_the_delay_and_memory_is_bounded() {
        let (mut throttle, peer) = (Throttle::default(), IpAddr::from([127, 0, 0, 1]));
        for n in 0..2 * MAX_ENTRIES {
            throttle.failed(peer, &format!("user-{n}"), Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(throttle.failures.len(), MAX_ENTRIES);
        throttle.succeeded(peer, "x");
        assert_eq!(throttle.delay(peer, "x", Instant::now()), Duration::ZERO);
    }
}
