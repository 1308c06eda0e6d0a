//! The environment a figure was measured in: without it the figure means nothing.

use serde::Serialize;
use std::fs;

/// What the client ran on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Processors this process may use.
    pub cores: usize,
    /// Model of the processor, if known.
    pub cpu: Option<String>,
    /// Memory in bytes, if known.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub system: String,
    /// Release of the kernel, if known.
    pub kernel: Option<String>,
    /// Processes that ran or waited in the last minute, before the run; other load makes figures worse.
    pub load_average: Option<f64>,
    /// Version of this program.
    pub client_version: String,
    /// Whether it was built without optimisation.
    pub debug_build: bool,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn here() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| field(&text, "model name").map(str::to_owned)),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(field(&text, "MemTotal")?)),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            debug_build: cfg!(debug_assertions),
        }
    }
}

/// The value of the first `name : value` line.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()))
}

/// Bytes of `123 kB`.
pub(crate) fn kib(value: &str) -> Option<u64> {
    value.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: fast\nVmRSS:\t  12 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU: fast"));
        assert_eq!(field(text, "VmRSS").and_then(kib), Some(12 * 1024));
        assert_eq!(field(text, "model"), None);
        assert!(Machine::here().cores > 0);
    }
}
