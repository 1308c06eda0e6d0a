//! Checks of options: ranges, and options that exclude or need one another. Their bounds come from `api.toml`.

use std::fmt::Display;
use std::time::Duration;

use crate::error::{Error, Result};

/// A number from `low` to `high`.
pub(crate) fn number<T: Copy + Display + TryInto<u64>>(name: &str, value: T, low: u64, high: u64) -> Result<()> {
    match value.try_into() {
        Ok(number) if (low..=high).contains(&number) => Ok(()),
        _ if high == u64::MAX => Err(Error::usage(name, format!("{name} must be at least {low}, not {value}"))),
        _ => Err(Error::usage(name, format!("{name} must be {low} to {high}, not {value}"))),
    }
}

/// A duration from `low_ms` to `high_ms`.
pub(crate) fn time(name: &str, value: Duration, low_ms: u64, high_ms: u64) -> Result<()> {
    if (Duration::from_millis(low_ms)..=Duration::from_millis(high_ms)).contains(&value) {
        Ok(())
    } else {
        Err(Error::usage(name, format!("{name} must be {low_ms} to {high_ms} milliseconds, not {value:?}")))
    }
}

/// A text of `low` to `high` bytes. It may be a secret and is not shown.
pub(crate) fn length(name: &str, text: &str, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&text.len()) {
        Ok(())
    } else {
        Err(Error::usage(name, format!("{name} must have {low} to {high} bytes, not {}", text.len())))
    }
}

/// At most one of these is given.
pub(crate) fn exclusive(options: &[(&str, bool)]) -> Result<()> {
    let mut given = options.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
    match (given.next(), given.next()) {
        (Some(first), Some(second)) => {
            Err(Error::usage(second, format!("{first} and {second} cannot be given together")))
        }
        _ => Ok(()),
    }
}

/// What `name` makes no sense without is there.
pub(crate) fn needs(name: &str, given: bool, needed: &str, there: bool) -> Result<()> {
    if given && !there { Err(Error::usage(name, format!("{name} needs {needed}"))) } else { Ok(()) }
}
