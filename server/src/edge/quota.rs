//! What users take of the server, all their connections on all cores together: buckets that fill with time, one for each rate,
//! and a count of connections. Who has no quota costs a look at a flag.
//!
//! A bucket holds what may be taken in a second. It lets through while there is anything in it and may go below zero: a batch
//! larger than the rate passes, and what follows waits until it is paid for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use levada_protocol::ErrorCode;

use crate::failure::Failure;
use crate::metadata::Quota;

const MICROS_PER_SECOND: i128 = 1_000_000;

/// A rate, and what of it is left.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_second: u64,
    /// Millionths, so that slow rates lose nothing between two looks.
    left: i128,
    filled_us: i64,
}

impl Bucket {
    fn full(per_second: u64, now_us: i64) -> Self {
        Self { per_second, left: i128::from(per_second) * MICROS_PER_SECOND, filled_us: now_us }
    }

    fn fill(&mut self, now_us: i64) {
        // A clock that was set back fills nothing until it is where it was.
        let passed_us = now_us.saturating_sub(self.filled_us).max(0);
        self.filled_us = self.filled_us.max(now_us);
        let brim = i128::from(self.per_second) * MICROS_PER_SECOND;
        self.left = (self.left + i128::from(passed_us) * i128::from(self.per_second)).min(brim);
    }

    /// How long until there is something to take; `None`: there is.
    fn wait_ms(&mut self, now_us: i64) -> Option<u32> {
        self.fill(now_us);
        if 0 < self.left {
            return None;
        }
        let missing = 1 - self.left;
        let wait_us = missing.div_euclid(i128::from(self.per_second)) + 1;
        Some(u32::try_from(wait_us.div_euclid(1000) + 1).unwrap_or(u32::MAX))
    }

    fn take(&mut self, amount: u64) {
        self.left -= i128::from(amount) * MICROS_PER_SECOND;
    }
}

#[derive(Debug, Default)]
struct Taken {
    quota: Quota,
    bytes_in: Option<Bucket>,
    bytes_out: Option<Bucket>,
    requests: Option<Bucket>,
    connection_count: u32,
}

/// What one user takes.
#[derive(Debug, Default)]
pub struct Meter {
    /// Whether any rate is limited: looked at without the lock.
    is_limited: AtomicBool,
    taken: Mutex<Taken>,
}

impl Meter {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Every critical section leaves the numbers consistent, so a panic elsewhere changes nothing.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits from here on. What is unchanged goes on where it was.
    pub fn set(&self, quota: &Quota, now_us: i64) {
        let mut taken = self.taken();
        if taken.quota == *quota {
            return;
        }
        let bucket = |rate: Option<u64>| rate.map(|per_second| Bucket::full(per_second, now_us));
        taken.bytes_in = bucket(quota.bytes_in);
        taken.bytes_out = bucket(quota.bytes_out);
        taken.requests = bucket(quota.requests.map(u64::from));
        taken.quota = quota.clone();
        let is_limited = taken.bytes_in.is_some() || taken.bytes_out.is_some() || taken.requests.is_some();
        self.is_limited.store(is_limited, Ordering::Release);
    }

    /// Counts a request in that brings `bytes_in` of messages, and asks for some if `is_read`.
    ///
    /// # Errors
    /// `THROTTLED`, with the time after which to try again; nothing is counted then.
    pub fn admit(&self, bytes_in: usize, is_read: bool, now_us: i64) -> Result<(), Failure> {
        if !self.is_limited.load(Ordering::Acquire) {
            return Ok(());
        }
        let taken = &mut *self.taken();
        let mut waits = Vec::new();
        let asked = [
            ("requests", &mut taken.requests, true),
            ("bytes_in", &mut taken.bytes_in, 0 < bytes_in),
            ("bytes_out", &mut taken.bytes_out, is_read),
        ];
        for (name, bucket, counts) in asked {
            if let Some(bucket) = bucket.as_mut().filter(|_| counts) {
                waits.extend(bucket.wait_ms(now_us).map(|wait_ms| (wait_ms, name)));
            }
        }
        if let Some((wait_ms, name)) = waits.into_iter().max() {
            let message = format!("the user's quota of {name} is used up: try again in {wait_ms} ms");
            return Err(Failure::because(ErrorCode::Throttled, message).with("quota", name).retry_after_ms(wait_ms));
        }
        if let Some(requests) = &mut taken.requests {
            requests.take(1);
        }
        if let Some(bucket) = &mut taken.bytes_in {
            bucket.take(bytes_in as u64);
        }
        Ok(())
    }

    /// Counts messages that go out.
    pub fn sent(&self, bytes_out: usize) {
        if self.is_limited.load(Ordering::Acquire)
            && let Some(bucket) = &mut self.taken().bytes_out
        {
            bucket.take(bytes_out as u64);
        }
    }

    /// How long more messages have to wait; `None`: not at all.
    pub fn send_wait_ms(&self, now_us: i64) -> Option<u32> {
        if !self.is_limited.load(Ordering::Acquire) {
            return None;
        }
        self.taken().bytes_out.as_mut().and_then(|bucket| bucket.wait_ms(now_us))
    }
}

/// The meters of users that are connected. Shared by all cores.
#[derive(Debug, Default)]
pub struct Meters {
    by_user: Mutex<BTreeMap<u32, Arc<Meter>>>,
}

impl Meters {
    /// Counts a connection of a user in.
    ///
    /// # Errors
    /// `TOO_MANY_CONNECTIONS`.
    pub fn connect(self: &Arc<Self>, user_id: u32, quota: &Quota, now_us: i64) -> Result<Metered, Failure> {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = Arc::clone(by_user.entry(user_id).or_default());
        drop(by_user);
        meter.set(quota, now_us);
        let mut taken = meter.taken();
        if let Some(limit) = quota.connections.filter(|limit| *limit <= taken.connection_count) {
            let message = format!("the user may have {limit} connections at a time");
            return Err(Failure::because(ErrorCode::TooManyConnections, message).with("limit", limit));
        }
        taken.connection_count += 1;
        drop(taken);
        Ok(Metered { meters: Arc::clone(self), user_id, meter })
    }
}

/// A connection that is counted; dropped, it no longer is.
#[derive(Debug)]
pub struct Metered {
    meters: Arc<Meters>,
    user_id: u32,
    meter: Arc<Meter>,
}

impl std::ops::Deref for Metered {
    type Target = Meter;

    fn deref(&self) -> &Meter {
        &self.meter
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.taken().connection_count -= 1;
        let mut by_user = self.meters.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's and this one: nobody else has it. One that is just connecting makes a new one, which forgets at
        // most what was taken in the last second.
        if by_user.get(&self.user_id).is_some_and(|meter| Arc::ptr_eq(meter, &self.meter))
            && Arc::strong_count(&self.meter) == 2
        {
            by_user.remove(&self.user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn meter(quota: &Quota) -> Metered {
        Arc::new(Meters::default()).connect(1, quota, 0).unwrap()
    }

    #[test]
    fn a_rate_is_kept_over_time_and_a_batch_larger_than_it_is_paid_for_later() {
        let meter = meter(&Quota { bytes_in: Some(1000), ..Quota::default() });
        meter.admit(3500, false, 0).unwrap();
        let refused = meter.admit(1, false, SECOND).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::Throttled, 1501));
        meter.admit(0, true, SECOND).unwrap();
        meter.admit(1, false, 5 * SECOND / 2 + 2000).unwrap();
        let mut admitted = 0;
        for ms in 3000..13_000 {
            admitted += u64::from(meter.admit(10, false, ms * 1000).is_ok()) * 10;
        }
        assert!((9_900..=11_010).contains(&admitted), "{admitted} in ten seconds");
    }

    #[test]
    fn requests_and_bytes_out_have_rates_of_their_own() {
        let meter = meter(&Quota { requests: Some(2), bytes_out: Some(100), ..Quota::default() });
        meter.admit(1 << 20, false, 0).unwrap();
        meter.admit(0, false, 0).unwrap();
        assert_eq!(meter.admit(0, false, 0).unwrap_err().details[0].value, "requests");
        assert_eq!(meter.send_wait_ms(0), None);
        meter.sent(1100);
        assert!(meter.send_wait_ms(SECOND).is_some_and(|wait_ms| (9_000..9_100).contains(&wait_ms)));
        meter.admit(0, false, SECOND).unwrap();
        assert_eq!(meter.admit(0, true, SECOND).unwrap_err().details[0].value, "bytes_out");
        meter.admit(0, true, 11 * SECOND).unwrap();
    }

    #[test]
    fn connections_are_counted_and_limits_lifted() {
        let meters = Arc::new(Meters::default());
        let quota = Quota { connections: Some(1), requests: Some(1), ..Quota::default() };
        let first = meters.connect(1, &quota, 0).unwrap();
        assert_eq!(meters.connect(1, &quota, 0).unwrap_err().code, ErrorCode::TooManyConnections);
        meters.connect(2, &quota, 0).unwrap();
        first.admit(0, false, 0).unwrap();
        assert!(first.admit(0, false, 0).is_err());
        let second = meters.connect(1, &Quota::default(), 0).unwrap();
        first.admit(0, false, 0).unwrap();
        drop((first, second));
        assert!(meters.by_user.lock().unwrap().is_empty(), "who is gone is forgotten");
    }
}
