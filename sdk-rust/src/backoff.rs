//! How long to wait before the next attempt: exponential from a floor to a ceiling, with full jitter above half.
//!
//! Knows no clock and no source of randomness: the caller passes random bits and waits by itself.

use std::time::Duration;

/// Bounds of the wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first wait, before jitter.
    pub floor: Duration,
    /// The longest wait, before jitter.
    pub ceiling: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        crate::options::ClientOptions::default().backoff_options()
    }
}

/// The state of one series of attempts.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    options: BackoffOptions,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(options: BackoffOptions) -> Backoff {
        Backoff { options, failures: 0 }
    }

    /// The wait after one more failure: between half of the doubled step and the whole of it.
    pub(crate) fn next_ms(&mut self, random: u64) -> u64 {
        let floor_ms = as_ms(self.options.floor).max(1);
        let ceiling_ms = as_ms(self.options.ceiling).max(floor_ms);
        let step_ms = floor_ms.checked_shl(self.failures.min(32)).unwrap_or(ceiling_ms).min(ceiling_ms);
        self.failures = self.failures.saturating_add(1);
        let half = step_ms / 2;
        half + random % (step_ms - half + 1)
    }

    /// An attempt succeeded: the next series starts from the floor.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_start_over_after_success() {
        let options = BackoffOptions { floor: Duration::from_millis(50), ceiling: Duration::from_millis(1000) };
        let mut backoff = Backoff::new(options);
        let longest: Vec<u64> = (0..7)
            .map(|_| {
                let step = 50u64 << backoff.failures.min(10);
                let step = step.min(1000);
                backoff.next_ms(step - step / 2)
            })
            .collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_ms(0), 25);
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole_step() {
        for random in [0, 1, 7, u64::MAX, 12345] {
            let mut backoff = Backoff::new(BackoffOptions::default());
            for failures in 0..40u32 {
                let step = (50u64 << failures.min(20)).min(5000);
                let wait = backoff.next_ms(random);
                assert!(wait >= step / 2 && wait <= step, "{wait} of {step}");
            }
        }
    }
}
