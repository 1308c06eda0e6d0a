//! CPU time and memory of a server on this machine: found by the inode of the socket that listens on its port, read from
//! /proc. Absent elsewhere, and without the right to look at that process.

use crate::machine::{field, kib};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

/// A process that listens on a port of this machine.
#[derive(Clone, Debug)]
pub(crate) struct ServerProcess {
    folder: PathBuf,
    ticks_per_second: u64,
}

/// What it used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Use {
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
}

/// State `LISTEN` in /proc/net/tcp.
const LISTEN: &str = "0A";
/// Entry of the auxiliary vector that holds the clock ticks per second.
const AT_CLKTCK: u64 = 17;

impl ServerProcess {
    /// The process behind `host:port`, if `host` is this machine.
    pub(crate) fn find(host: &str, port: u16) -> Option<Self> {
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !loopback {
            return None;
        }
        let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .find_map(|path| listening_inode(&fs::read_to_string(path).ok()?, port))?;
        let folder = owner_of(&format!("socket:[{inode}]"))?;
        Some(Self { folder, ticks_per_second: ticks_per_second() })
    }

    pub(crate) fn read(&self) -> Option<Use> {
        let stat = fs::read_to_string(self.folder.join("stat")).ok()?;
        let status = fs::read_to_string(self.folder.join("status")).ok()?;
        let ticks = cpu_ticks(&stat)?;
        Some(Use {
            cpu_seconds: ticks as f64 / self.ticks_per_second as f64,
            rss_bytes: kib(field(&status, "VmRSS")?)?,
        })
    }

    /// The most memory it ever had.
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        kib(field(&fs::read_to_string(self.folder.join("status")).ok()?, "VmHWM")?)
    }
}

fn listening_inode(table: &str, port: u16) -> Option<u64> {
    let port = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state) = (columns.get(1)?, columns.get(3)?);
        let matches = *state == LISTEN && local.rsplit_once(':').is_some_and(|(_, local)| local == port);
        if matches { columns.get(9)?.parse().ok() } else { None }
    })
}

fn owner_of(socket: &str) -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbered = processes.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    numbered.map(|entry| entry.path()).find(|folder| {
        let files = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
    })
}

/// User and system time, all threads. The command name before it may hold blanks and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn ticks_per_second() -> u64 {
    const USUAL: u64 = 100;
    let Ok(vector) = fs::read("/proc/self/auxv") else { return USUAL };
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    vector
        .chunks_exact(16)
        .find(|entry| number(&entry[..8]) == AT_CLKTCK)
        .map_or(USUAL, |entry| number(&entry[8..]).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_listener_of_a_port_is_found_and_its_use_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let process = ServerProcess::find("127.0.0.1", port).expect("this process listens");
        let used = process.read().expect("own process is readable");
        assert!(used.rss_bytes > 0);
        assert!(process.peak_rss_bytes().expect("own process") >= used.rss_bytes / 2);
        assert!(ServerProcess::find("192.0.2.1", port).is_none(), "another machine's processes are not ours");
        drop(listener);
        assert!(ServerProcess::find("localhost", port).is_none());
    }

    #[test]
    fn tables_of_proc_are_read_by_column() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1CFC 00000000:0000 01 0:0 00:0 0 0 0 111 1\n\
                     1: 0100007F:1CFC 00000000:0000 0A 0:0 00:0 0 0 0 222 1\n";
        assert_eq!(listening_inode(table, 7420), Some(222));
        assert_eq!(listening_inode(table, 7421), None);
        assert_eq!(cpu_ticks("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 7 5 0 0 20"), Some(12));
        assert_eq!(cpu_ticks("garbage"), None);
    }
}
