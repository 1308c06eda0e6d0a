//! What every disk does alike: io_uring, threads, buffered and the crash model, each through the same scenarios.

use std::future::Future;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use levada_storage::buffer::{AppendBuffer, BufferPool};
use levada_storage::crash::{CrashDisk, CrashOptions};
use levada_storage::disk::fault::{FaultDisk, FaultPoint};
use levada_storage::disk::{BLOCK_BYTES, DirEntry, Disk, Durable, File, OpenMode, Preference, open_disk};
use tempfile::TempDir;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A disk under test, and the directory it lives in if it is a real one.
struct Bench {
    disk: Rc<dyn Disk>,
    pool: BufferPool,
    dir: Option<TempDir>,
}

/// Runs a scenario on every backend. io_uring is left out, loudly, where the kernel does not allow it.
async fn on_each<F: Future<Output = ()>>(scenario: impl Fn(Bench) -> F) {
    let options = CrashOptions { max_delay: Duration::from_millis(2), ..CrashOptions::default() };
    for simulated in [CrashDisk::new(1, CrashOptions::default()), CrashDisk::new(2, options)] {
        scenario(Bench { disk: Rc::new(simulated), pool: pool(), dir: None }).await;
    }
    for preference in [Preference::Buffered, Preference::Threads, Preference::IoUring] {
        let dir = tempfile::tempdir().expect("a directory for tests");
        match open_disk(dir.path(), preference).await {
            Ok(disk) => scenario(Bench { disk, pool: pool(), dir: Some(dir) }).await,
            Err(error) => assert!(
                preference == Preference::IoUring && matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)),
                "{preference}: {error}"
            ),
        }
    }
}

fn pool() -> BufferPool {
    BufferPool::new(64 << 20)
}

impl Bench {
    async fn create(&self, name: &str) -> Rc<dyn File> {
        self.disk.open(Path::new(name), OpenMode::CreateNew).await.expect("a new name")
    }

    fn bytes(&self, count: usize, byte: impl Fn(usize) -> u8) -> Bytes {
        let mut buffer = self.pool.take(count);
        buffer.as_mut_slice().iter_mut().enumerate().for_each(|(at, target)| *target = byte(at));
        buffer.freeze(count)
    }

    fn blocks(&self, byte: u8, count: usize) -> Bytes {
        self.bytes(count * BLOCK_BYTES, |_| byte)
    }

    async fn read(&self, file: &Rc<dyn File>, offset: u64, len: usize) -> Vec<u8> {
        let (buffer, count) = file.read(self.pool.take(len), offset).await;
        buffer.as_slice()[..count.expect("a readable file")].to_vec()
    }

    async fn names(&self, dir: &str) -> Vec<String> {
        let entries = self.disk.list(Path::new(dir)).await.expect("a directory");
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

fn fails_with<T>(outcome: io::Result<T>, errno: i32) {
    let Err(error) = outcome else { panic!("succeeded instead of {}", io::Error::from_raw_os_error(errno)) };
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

fn pattern(at: usize) -> u8 {
    (at / 7 % 251).to_le_bytes()[0]
}

#[tokio::test(flavor = "local")]
async fn what_is_written_is_read_back_at_every_alignment_edge() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        for (offset, count) in [(0, 1), (1, 1), (2, 3), (5, 256), (261, 1), (0, 2)] {
            let data = bench.bytes(count * BLOCK_BYTES, |at| pattern(at + count));
            for durable in [Durable::No, Durable::Yes] {
                file.write(data.clone(), offset * BLOCK, durable).await.unwrap();
                assert_eq!(bench.read(&file, offset * BLOCK, data.len()).await, data, "{}", bench.disk.backend());
            }
        }
        file.sync().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 262 * BLOCK);
        let again = bench.disk.open(Path::new("log"), OpenMode::Read).await.unwrap();
        assert_eq!(bench.read(&again, 5 * BLOCK, 4096).await, bench.bytes(4096, |at| pattern(at + 256)));
        assert_eq!(again.path(), PathBuf::from("log"));
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn reads_are_short_only_at_the_end() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        file.write(bench.blocks(5, 2), 0, Durable::Yes).await.unwrap();
        assert_eq!(bench.read(&file, 0, 1 << 20).await, bench.blocks(5, 2));
        assert_eq!(bench.read(&file, BLOCK, 8192).await, bench.blocks(5, 1));
        assert_eq!(bench.read(&file, 2 * BLOCK, 4096).await, b"");
        assert_eq!(bench.read(&file, 9 * BLOCK, 4096).await, b"");
        file.truncate(BLOCK + 700).await.unwrap();
        assert_eq!(file.len().await.unwrap(), BLOCK + 700);
        assert_eq!(bench.read(&file, 0, 1 << 16).await, vec![5; BLOCK_BYTES + 700], "{}", bench.disk.backend());
        assert_eq!(bench.read(&file, BLOCK, 4096).await, vec![5; 700]);
        file.reserve(2 * BLOCK).await.unwrap();
        let grown = bench.read(&file, BLOCK, 4096).await;
        assert_eq!((&grown[..700], &grown[700..]), (&[5; 700][..], &[0; BLOCK_BYTES - 700][..]));
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn what_direct_io_cannot_do_is_refused_everywhere() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        fails_with(file.write(bench.blocks(1, 1), 512, Durable::Yes).await, libc::EINVAL);
        fails_with(file.write(bench.blocks(1, 1).slice(..512), 0, Durable::Yes).await, libc::EINVAL);
        fails_with(file.write(bench.blocks(1, 2).slice(1..4097), 0, Durable::Yes).await, libc::EINVAL);
        fails_with(file.write(bench.blocks(1, 1), u64::MAX - BLOCK + 1, Durable::Yes).await, libc::EINVAL);
        fails_with(file.read(bench.pool.take(1), 512).await.1, libc::EINVAL);
        file.write(Bytes::new(), 0, Durable::Yes).await.map(drop).unwrap_or(());
        assert_eq!(file.len().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn an_open_commit_is_readable_while_it_is_written_and_appended_to() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        let mut buffer: AppendBuffer = bench.pool.append(1 << 20);
        let mut writes = Vec::new();
        let mut views = Vec::new();
        for round in 0..16_u8 {
            let start = buffer.len();
            buffer.append(&[round; 5000]);
            buffer.pad_to_block();
            let view = buffer.view(start..buffer.len());
            writes.push(file.write(view.clone(), start as u64, Durable::Yes));
            views.push(view);
        }
        let written = buffer.view(0..buffer.len());
        drop(buffer);
        for (round, view) in (0_u8..).zip(&views) {
            assert!(view[..5000].iter().all(|&byte| byte == round));
        }
        for write in writes {
            write.await.unwrap();
        }
        assert_eq!(bench.read(&file, 0, written.len()).await, written);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn reserved_space_reads_as_zero_and_truncation_gives_it_back() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        file.reserve(64 * BLOCK).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 64 * BLOCK);
        file.write(bench.blocks(3, 1), 10 * BLOCK, Durable::Yes).await.unwrap();
        let mut expected = vec![0; 64 * BLOCK_BYTES];
        expected[10 * BLOCK_BYTES..11 * BLOCK_BYTES].fill(3);
        assert_eq!(bench.read(&file, 0, 64 * BLOCK_BYTES).await, expected);
        file.reserve(8 * BLOCK).await.unwrap();
        file.reserve(0).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 64 * BLOCK);
        file.truncate(10 * BLOCK).await.unwrap();
        file.sync().await.unwrap();
        file.reserve(12 * BLOCK).await.unwrap();
        assert_eq!(bench.read(&file, 10 * BLOCK, 8192).await, vec![0; 8192], "what was cut off stays gone");
        assert!(file.reserve(u64::MAX).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn names_are_created_listed_renamed_and_removed() {
    on_each(async |bench| {
        let disk = &bench.disk;
        let [a, b, deep, root] = ["x/a", "x/b", "x/y/z", ""].map(Path::new);
        disk.create_dir_all(deep).await.unwrap();
        disk.create_dir_all(deep).await.unwrap();
        bench.create("x/b").await.write(bench.blocks(2, 1), 0, Durable::Yes).await.unwrap();
        bench.create("x/a").await.write(bench.blocks(1, 1), 0, Durable::Yes).await.unwrap();
        let entry = |name: &str, is_dir| DirEntry { name: name.to_owned(), is_dir };
        let listed = disk.list(Path::new("x")).await.unwrap();
        assert_eq!(listed, [entry("a", false), entry("b", false), entry("y", true)]);
        for dir in ["", ".", "x", "x/y", "x/y/z"] {
            disk.sync_dir(Path::new(dir)).await.unwrap();
        }
        disk.rename(a, b).await.unwrap();
        assert_eq!(bench.names("x").await, ["b", "y"]);
        let file = disk.open(b, OpenMode::Read).await.unwrap();
        assert_eq!(bench.read(&file, 0, 4096).await, bench.blocks(1, 1));
        disk.rename(Path::new("x/y"), Path::new("w")).await.unwrap();
        assert_eq!(bench.names("w").await, ["z"]);
        fails_with(disk.remove_dir(Path::new("w")).await, libc::ENOTEMPTY);
        disk.remove_dir(Path::new("w/z")).await.unwrap();
        disk.remove_dir(Path::new("w")).await.unwrap();
        disk.remove_file(b).await.unwrap();
        assert_eq!(bench.read(&file, 0, 4096).await, bench.blocks(1, 1), "an open file outlives its name");
        assert_eq!(bench.names("x").await, [""; 0]);
        let space = disk.space(root).await.unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn errors_keep_their_number() {
    on_each(async |bench| {
        let disk = &bench.disk;
        disk.create_dir_all(Path::new("dir")).await.unwrap();
        bench.create("file").await;
        let [absent, dir, file] = ["absent", "dir", "file"].map(Path::new);
        fails_with(disk.open(absent, OpenMode::ReadWrite).await, libc::ENOENT);
        fails_with(disk.open(Path::new("absent/f"), OpenMode::CreateNew).await, libc::ENOENT);
        fails_with(disk.open(file, OpenMode::CreateNew).await, libc::EEXIST);
        fails_with(disk.open(dir, OpenMode::Read).await, libc::EISDIR);
        fails_with(disk.list(file).await, libc::ENOTDIR);
        fails_with(disk.list(absent).await, libc::ENOENT);
        fails_with(disk.sync_dir(absent).await, libc::ENOENT);
        fails_with(disk.remove_file(absent).await, libc::ENOENT);
        fails_with(disk.remove_file(dir).await, libc::EISDIR);
        fails_with(disk.remove_dir(file).await, libc::ENOTDIR);
        fails_with(disk.rename(absent, file).await, libc::ENOENT);
        fails_with(disk.rename(file, dir).await, libc::EISDIR);
        fails_with(disk.rename(dir, file).await, libc::ENOTDIR);
        fails_with(disk.create_dir_all(Path::new("file/sub")).await, libc::ENOTDIR);
        let reader = disk.open(file, OpenMode::Read).await.unwrap();
        fails_with(reader.write(bench.blocks(1, 1), 0, Durable::Yes).await, libc::EBADF);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn no_path_leads_out_of_the_directory() {
    on_each(async |bench| {
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            let path = Path::new(path);
            fails_with(bench.disk.open(path, OpenMode::Read).await, libc::EINVAL);
            fails_with(bench.disk.create_dir_all(path).await, libc::EINVAL);
            fails_with(bench.disk.rename(path, Path::new("y")).await, libc::EINVAL);
        }
        if let Some(dir) = &bench.dir {
            symlink("/etc", dir.path().join("etc")).unwrap();
            symlink("/etc/passwd", dir.path().join("passwd")).unwrap();
            fails_with(bench.disk.open(Path::new("passwd"), OpenMode::Read).await, libc::ELOOP);
            assert!(bench.disk.open(Path::new("etc/passwd"), OpenMode::Read).await.is_err());
            assert!(bench.disk.list(Path::new("etc")).await.is_err());
            assert!(bench.disk.create_dir_all(Path::new("etc/x")).await.is_err());
        }
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn operations_whose_caller_is_gone_still_finish_and_give_their_memory_back() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        for block in 0..50 {
            drop(file.write(bench.blocks(8, 64), block * 64 * BLOCK, Durable::Yes));
            drop(file.read(bench.pool.take(1 << 18), 0));
        }
        drop(file);
        let file = bench.disk.open(Path::new("log"), OpenMode::ReadWrite).await.unwrap();
        // The backends do not order operations of different handles, so wait until the memory says that all are done.
        while 0 < bench.pool.stats().used_bytes {
            file.sync().await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(file.len().await.unwrap(), 50 * 64 * BLOCK, "{}", bench.disk.backend());
        assert_eq!(bench.read(&file, 49 * 64 * BLOCK, 64 * BLOCK_BYTES).await, bench.blocks(8, 64));
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_thousand_operations_at_once_all_complete() {
    on_each(async |bench| {
        let files = [bench.create("a").await, bench.create("b").await];
        for file in &files {
            file.reserve(512 * BLOCK).await.unwrap();
        }
        let numbers = || (0_u8..=255).cycle().take(512).enumerate();
        let mut writes = Vec::new();
        for (block, byte) in numbers() {
            let durable = if byte % 16 == 0 { Durable::Yes } else { Durable::No };
            writes.extend(files.iter().map(|file| file.write(bench.blocks(byte, 1), block as u64 * BLOCK, durable)));
        }
        for write in writes {
            write.await.unwrap();
        }
        let mut reads = Vec::new();
        for (block, byte) in numbers() {
            reads.extend(files.iter().map(|file| (byte, file.read(bench.pool.take(1), block as u64 * BLOCK))));
        }
        for (byte, read) in reads {
            let (buffer, count) = read.await;
            assert_eq!(count.unwrap(), BLOCK_BYTES);
            assert!(buffer.as_slice().iter().all(|&found| found == byte), "{}", bench.disk.backend());
        }
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn the_disk_may_be_dropped_before_its_files_and_under_way_operations() {
    on_each(async |bench| {
        let file = bench.create("log").await;
        let write = file.write(bench.blocks(4, 1), 0, Durable::Yes);
        let Bench { disk, pool, dir } = bench;
        drop(disk);
        write.await.unwrap();
        let (buffer, count) = file.read(pool.take(1), 0).await;
        assert_eq!((count.unwrap(), buffer.as_slice()[0]), (BLOCK_BYTES, 4));
        drop(file);
        drop(dir);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn chosen_operations_fail_over_any_disk() {
    on_each(async |bench| {
        let faulty = FaultDisk::new(Rc::clone(&bench.disk));
        let file = faulty.open(Path::new("log"), OpenMode::CreateNew).await.unwrap();
        let write = async |byte, durable| file.write(bench.blocks(byte, 1), 0, durable).await;
        faulty.fail(FaultPoint::Flush, 3, libc::EIO);
        write(1, Durable::Yes).await.unwrap();
        write(2, Durable::No).await.unwrap();
        file.sync().await.unwrap();
        fails_with(write(3, Durable::Yes).await, libc::EIO);
        assert_eq!((faulty.failed_count(), faulty.asked_after_failure_count()), (1, 0));
        assert_eq!(bench.read(&file, 0, 4096).await, bench.blocks(2, 1));
        assert_eq!(faulty.asked_after_failure_count(), 0, "reading goes on");
        file.sync().await.unwrap();
        assert_eq!(faulty.asked_after_failure_count(), 1);
        faulty.fail(FaultPoint::Write, 1, libc::ENOSPC);
        fails_with(write(4, Durable::No).await, libc::ENOSPC);
        faulty.fail(FaultPoint::Read, 1, libc::EIO);
        fails_with(file.read(bench.pool.take(1), 0).await.1, libc::EIO);
        faulty.fail(FaultPoint::Flush, 1, libc::EIO);
        fails_with(faulty.sync_dir(Path::new("")).await, libc::EIO);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn the_automatic_choice_works_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open_disk(dir.path(), Preference::Auto).await.unwrap();
    assert!(["io_uring", "threads", "buffered"].contains(&disk.backend()));
    assert_eq!(disk.list(Path::new("")).await.unwrap(), []);
    assert!(open_disk(&dir.path().join("absent"), Preference::Auto).await.is_err());
}

#[test]
fn preferences_are_words() {
    for preference in [Preference::Auto, Preference::IoUring, Preference::Threads, Preference::Buffered] {
        assert_eq!(preference.to_string().parse(), Ok(preference));
    }
    assert!("uring".parse::<Preference>().is_err());
}

#[test]
fn a_runtime_that_ends_with_operations_under_way_leaves_their_memory_alone() {
    for preference in [Preference::Threads, Preference::IoUring] {
        let dir = tempfile::tempdir().unwrap();
        let pool = pool();
        let runtime = tokio::runtime::LocalRuntime::new().unwrap();
        let opened = runtime.block_on(async {
            let disk = open_disk(dir.path(), preference).await.ok()?;
            let file = disk.open(Path::new("log"), OpenMode::CreateNew).await.unwrap();
            file.write(pool.take_zeroed(8 << 20).freeze(8 << 20), 0, Durable::No).await.unwrap();
            (0..300).for_each(|_| drop(file.read(pool.take(1 << 18), 0)));
            tokio::task::yield_now().await;
            Some(())
        });
        drop(runtime);
        while opened.is_some() && 0 < pool.stats().used_bytes {
            std::thread::yield_now();
        }
    }
}
