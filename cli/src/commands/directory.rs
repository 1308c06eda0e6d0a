//! `levada verify` and `levada repair`: a data directory without its server. Both hold the directory's lock while they
//! work, so that no server starts on it meanwhile; a running server keeps them out.

use crate::args::{RepairArgs, VerifyArgs};
use crate::failure::{Exit, Failure};
use crate::screen::{Screen, Value};
use crate::session::Session;
use crate::units::{human_bytes, human_count};
use levada_storage::buffer::BufferPool;
use levada_storage::disk::{Disk, Preference, open_disk};
use levada_storage::verify::{LogReport, RepairReport, repair as repair_log, verify as verify_logs};
use levada_storage::{PartitionIdentity, ReadOnlyReason};
use serde::Serialize;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::task::LocalSet;

/// Bytes of read buffers kept for reuse.
const POOL_BYTES: usize = 16 << 20;
/// The server's own logs have topic ids from here up.
const FIRST_OWN_TOPIC_ID: u32 = 0xffff_0000;
const LOCK_FILE: &str = "lock";
const CHECKPOINTS: &str = "checkpoints";
const OWN_CHECKPOINTS: &str = "metadata-checkpoints";

#[derive(Serialize)]
struct DirectoryView {
    directory: String,
    defect_count: usize,
    logs: Vec<LogView>,
}

#[derive(Serialize)]
struct LogView {
    /// `TOPIC_ID:PARTITION`, or null if no segment header is readable.
    partition: Option<String>,
    directory: String,
    segment_count: usize,
    batch_count: u64,
    entry_count: u64,
    first_offset: u64,
    end_offset: u64,
    read_bytes: u64,
    /// What a crash left behind the last whole entry; the next start cuts it. Not damage.
    torn_bytes: u64,
    defects: Vec<DefectView>,
}

#[derive(Serialize)]
struct DefectView {
    file: String,
    position: u64,
    what: String,
}

#[derive(Serialize)]
struct RepairView {
    partition: String,
    /// Null if there was nothing to repair.
    defect: Option<DefectView>,
    lost_from_offset: u64,
    lost_to_offset: u64,
    set_aside: Vec<String>,
    audit: Option<String>,
}

pub(crate) async fn verify(session: &Session, args: VerifyArgs) -> Result<(), Failure> {
    let directory = args.directory;
    let logs = LocalSet::new().run_until(survey(&directory)).await?;
    let view = DirectoryView {
        directory: directory.display().to_string(),
        defect_count: logs.iter().map(|log| log.defects.len()).sum(),
        logs: logs.into_iter().map(|log| LogView::new(log, &directory)).collect(),
    };
    session.screen.show(&view, |screen| report(screen, &view))?;
    if view.defect_count > 0 { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
}

pub(crate) async fn repair(session: &Session, args: RepairArgs) -> Result<(), Failure> {
    let view = LocalSet::new().run_until(repair_one(&args)).await?;
    session.screen.show(&view, |_| in_words(&view))
}

async fn survey(directory: &Path) -> Result<Vec<LogReport>, Failure> {
    let _lock = lock(directory)?;
    let disk = open(directory).await?;
    let root = Path::new(".");
    verify_logs(&*disk, &BufferPool::new(POOL_BYTES), root)
        .await
        .map_err(|error| Failure::file("read", directory, &error))
}

async fn repair_one(args: &RepairArgs) -> Result<RepairView, Failure> {
    let directory = &args.directory;
    let _lock = lock(directory)?;
    let disk = open(directory).await?;
    let pool = BufferPool::new(POOL_BYTES);
    let failed = |error| Failure::file("repair", directory, &error);
    let logs = verify_logs(&*disk, &pool, Path::new(".")).await.map_err(failed)?;
    let wanted = args.partition.as_str();
    let named = |log: &&LogReport| name(log).is_some_and(|name| name == wanted) || log.dir == Path::new(wanted);
    let Some(log) = logs.iter().find(named) else {
        return Err(Failure::failed(format!("there is no partition `{wanted}` in {}", directory.display()))
            .hint(format!("`levada verify {}` shows what there is", directory.display())));
    };
    let own = log.identity.as_ref().is_some_and(is_own);
    let checkpoints = Path::new(if own { OWN_CHECKPOINTS } else { CHECKPOINTS });
    let report = repair_log(&*disk, &pool, &log.dir, checkpoints).await.map_err(failed)?;
    Ok(RepairView::new(wanted, report, directory))
}

/// Keeps servers out until it is dropped. The file is the server's; a directory without it was never one's.
fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join(LOCK_FILE);
    let file = File::open(&path).map_err(|error| match directory.is_dir() {
        true => {
            Failure::failed(format!("{} is not a data directory: it has no file `{LOCK_FILE}`", directory.display()))
        }
        false => Failure::file("read", directory, &error),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::failed(format!("a server is running on {}", directory.display())).hint("Stop it first"))
        }
        Err(TryLockError::Error(error)) => Err(Failure::file("lock", &path, &error)),
    }
}

/// Through the page cache: the other ways probe the directory with a file of their own.
async fn open(directory: &Path) -> Result<Rc<dyn Disk>, Failure> {
    open_disk(directory, Preference::Buffered).await.map_err(|error| Failure::file("open", directory, &error))
}

fn is_own(identity: &PartitionIdentity) -> bool {
    FIRST_OWN_TOPIC_ID <= identity.topic_id
}

fn name(log: &LogReport) -> Option<String> {
    log.identity.as_ref().map(ToString::to_string)
}

/// A path below the data directory, as the user can open it.
fn shown(directory: &Path, path: &Path) -> String {
    let path: PathBuf = path.components().filter(|part| *part != std::path::Component::CurDir).collect();
    directory.join(path).display().to_string()
}

impl LogView {
    fn new(log: LogReport, directory: &Path) -> Self {
        Self {
            partition: name(&log),
            directory: shown(directory, &log.dir),
            segment_count: log.segment_count,
            batch_count: log.batch_count,
            entry_count: log.entry_count,
            first_offset: log.first_offset,
            end_offset: log.end_offset,
            read_bytes: log.read_bytes,
            torn_bytes: log.torn_bytes,
            defects: log.defects.iter().map(|defect| DefectView::new(defect, directory)).collect(),
        }
    }
}

impl DefectView {
    fn new(defect: &ReadOnlyReason, directory: &Path) -> Self {
        Self { file: shown(directory, &defect.file), position: defect.position, what: defect.what.clone() }
    }
}

impl RepairView {
    fn new(partition: &str, report: RepairReport, directory: &Path) -> Self {
        Self {
            partition: partition.to_owned(),
            defect: report.defect.as_ref().map(|defect| DefectView::new(defect, directory)),
            lost_from_offset: report.lost_from_offset,
            lost_to_offset: report.lost_to_offset,
            set_aside: report.set_aside.iter().map(|path| shown(directory, path)).collect(),
            audit: report.audit.as_deref().map(|path| shown(directory, path)),
        }
    }
}

fn report(screen: &Screen, view: &DirectoryView) -> String {
    let rows = view.logs.iter().map(|log| {
        [
            Value::text(log.partition.as_deref().unwrap_or("unknown")),
            Value::text(&log.directory),
            Value::figure(log.segment_count),
            Value::figure(human_count(log.batch_count)),
            Value::figure(log.first_offset),
            Value::figure(log.end_offset),
            Value::figure(human_bytes(log.read_bytes)),
            if log.defects.is_empty() { Value::text("none") } else { Value::Alert(log.defects.len().to_string()) },
        ]
    });
    let table = screen
        .table(["PARTITION", "DIRECTORY", "SEGMENTS", "BATCHES", "START", "END", "READ", "DEFECTS"], rows.collect());
    let defects = view.logs.iter().flat_map(|log| log.defects.iter().map(move |defect| (log, defect)));
    let lines: String = defects
        .map(|(log, defect)| {
            let partition = log.partition.as_deref().unwrap_or("unknown");
            format!("{} at byte {}: {} (partition {partition})\n", defect.file, defect.position, defect.what)
        })
        .collect();
    let verdict = match view.defect_count {
        0 => "No defects.".to_owned(),
        count => format!(
            "{count} {}. `levada repair {} --partition ID --accept-loss` cuts a partition before its first one.",
            if count == 1 { "defect" } else { "defects" },
            view.directory
        ),
    };
    format!("{table}\n{lines}{verdict}\n")
}

fn in_words(view: &RepairView) -> String {
    let Some(defect) = &view.defect else {
        return format!("Partition {} has no defect; nothing was changed", view.partition);
    };
    let lost = match view.lost_to_offset.saturating_sub(view.lost_from_offset) {
        0 => "no message is known to be lost".to_owned(),
        count => format!(
            "{} lost: offsets {} to {}",
            if count == 1 { "1 message is".to_owned() } else { format!("{} messages are", human_count(count)) },
            view.lost_from_offset,
            view.lost_to_offset - 1
        ),
    };
    let aside: String = view.set_aside.iter().map(|path| format!("set aside: {path}\n")).collect();
    let audit = view.audit.as_deref().map_or(String::new(), |path| format!("audit record: {path}\n"));
    format!(
        "Repaired partition {}: {} at byte {}: {}; {lost}\n{aside}{audit}",
        view.partition, defect.file, defect.position, defect.what
    )
}
