//! Measures every disk backend in a directory: `disk_probe DIR [ROUNDS]`.
//!
//! Prints the latency of durable 4 KiB writes (into reserved space, and over space written before), the rate of durable
//! sequential 1 MiB writes at depth 1 (and 4 MiB at depth 2) and of sequential 1 MiB reads at depth 4, and the processor
//! time the process took for each.
#![expect(clippy::print_stdout, reason = "its purpose is to print")]

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use levada_storage::buffer::{AlignedBuffer, BufferPool};
use levada_storage::disk::{BLOCK_BYTES, Disk, Durable, File, LocalFuture, OpenMode, Preference, open_disk};
use tokio::time::Instant;

const FILE: &str = "disk_probe.tmp";
const FILE_BYTES: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const SMALL_COUNT: u64 = 2000;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or_else(|| io::Error::other("usage: disk_probe DIR [ROUNDS]"))?);
    let rounds = arguments.next().and_then(|rounds| rounds.to_str()?.parse().ok()).unwrap_or(3);
    tokio::runtime::LocalRuntime::new()?.block_on(async {
        for _ in 0..rounds {
            for preference in [Preference::IoUring, Preference::Threads, Preference::Buffered] {
                match open_disk(&dir, preference).await {
                    Ok(disk) => measure(&disk).await?,
                    Err(error) => println!("{preference:<9} not here: {error}"),
                }
            }
        }
        Ok(())
    })
}

async fn measure(disk: &Rc<dyn Disk>) -> io::Result<()> {
    let path = Path::new(FILE);
    let _ = disk.remove_file(path).await;
    let file = disk.open(path, OpenMode::CreateNew).await?;
    file.reserve(FILE_BYTES).await?;
    let name = disk.backend();
    small_writes(name, "reserved", &file).await?;
    small_writes(name, "written", &file).await?;
    large_writes(name, &file, MIB, 1).await?;
    file.truncate(0).await?;
    file.reserve(FILE_BYTES).await?;
    large_writes(name, &file, 4 * MIB, 2).await?;
    reads(name, &file).await?;
    drop(file);
    disk.remove_file(path).await
}

async fn small_writes(name: &str, space: &str, file: &Rc<dyn File>) -> io::Result<()> {
    let data = filled(BLOCK_BYTES);
    let mut times = Vec::new();
    let clock = Clock::start();
    for count in 0..SMALL_COUNT {
        let start = Instant::now();
        file.write(data.clone(), count * BLOCK_BYTES as u64, Durable::Yes).await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    println!("{name:<9} 4 KiB durable, {space:<8}: p50 {:>5} us, p99 {:>6} us, {}", at(50), at(99), clock.cpu());
    Ok(())
}

async fn large_writes(name: &str, file: &Rc<dyn File>, size: u64, depth: usize) -> io::Result<()> {
    let data = filled(usize::try_from(size).expect("a few MiB"));
    let clock = Clock::start();
    let mut open = VecDeque::new();
    for offset in (0..FILE_BYTES).step_by(data.len()) {
        if open.len() == depth {
            next(&mut open).await?;
        }
        open.push_back(file.write(data.clone(), offset, Durable::Yes));
    }
    while !open.is_empty() {
        next(&mut open).await?;
    }
    println!("{name:<9} {} MiB durable, depth {depth}: {}", size / MIB, clock.rate());
    Ok(())
}

async fn next<T>(open: &mut VecDeque<LocalFuture<'_, io::Result<T>>>) -> io::Result<T> {
    open.pop_front().expect("asked only when there is one").await
}

async fn reads(name: &str, file: &Rc<dyn File>) -> io::Result<()> {
    let pool = BufferPool::new(64 << 20);
    let clock = Clock::start();
    let mut open: VecDeque<LocalFuture<'_, (AlignedBuffer, io::Result<usize>)>> = VecDeque::new();
    let size = usize::try_from(MIB).expect("1 MiB");
    for offset in (0..FILE_BYTES).step_by(size) {
        if open.len() == 4 {
            open.pop_front().expect("there are four").await.1?;
        }
        open.push_back(file.read(pool.take(size), offset));
    }
    for read in open {
        read.await.1?;
    }
    println!("{name:<9} 1 MiB reads, depth 4  : {}", clock.rate());
    Ok(())
}

fn filled(len: usize) -> Bytes {
    let mut buffer = BufferPool::new(0).take(len);
    buffer.as_mut_slice().fill(0x4c);
    buffer.freeze(len)
}

struct Clock {
    start: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time() }
    }

    fn cpu(&self) -> String {
        format!("cpu {:.2} s", (cpu_time() - self.cpu).as_secs_f64())
    }

    fn rate(&self) -> String {
        let bytes = Duration::from_micros(FILE_BYTES).as_secs_f64();
        format!("{:>5.0} MB/s, {}", bytes / self.start.elapsed().as_secs_f64(), self.cpu())
    }
}

/// User and system time of the process, in the ticks of 10 ms that the kernel counts.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}
