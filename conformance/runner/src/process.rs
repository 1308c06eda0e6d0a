//! What the system says about a process: its descriptors, threads and memory. The runner reads it itself, so that a client
//! cannot be wrong about its own leaks.

use serde::Serialize;

/// A process at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Open file descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// Reads it; `None` where the process is gone or the system has no `/proc`.
pub fn usage(pid: u32) -> Option<Usage> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage { descriptors, threads: number("Threads:")?, resident_bytes: number("VmRSS:")? * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opened_file_is_counted() {
        let before = usage(std::process::id()).expect("this process has a /proc entry");
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").expect("it can be opened")).collect();
        let after = usage(std::process::id()).expect("this process has a /proc entry");
        assert!(before.descriptors + 25 < after.descriptors, "{before:?} {after:?}");
        drop(files);
    }
}
