//! Offline checks of a stopped server's data directory, and repair that accepts a loss.
//!
//! [`verify`] reads everything and changes nothing. [`repair`] cuts a damaged log before its first defect: what is cut is
//! set aside under a `.damaged` name, never deleted, and an audit file says what was done.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::accepted;
use crate::buffer::BufferPool;
use crate::config::PartitionIdentity;
use crate::disk::{BLOCK_BYTES, Disk, Durable, File, OpenMode};
use crate::entry::{FLAG_INDEX_ONLY, Kind, next_start, round_up};
use crate::errors::ReadOnlyReason;
use crate::log::scan::Scanner;
use crate::partition::log_start_of;
use crate::segment::{DATA_START, Footer, SegmentHeader, StateRecord, Totals, file_name, parse_file_name};

/// The defect of a log whose first segments are gone.
pub(crate) const MISSING_FRONT: &str = "segments are missing before this one";

/// What one log's files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Its directory, relative to the disk's root.
    pub dir: PathBuf,
    /// Whose it is, by its first readable segment header.
    pub identity: Option<PartitionIdentity>,
    /// Segment files.
    pub segment_count: usize,
    /// Entries that passed every check.
    pub entry_count: u64,
    /// Batches among them.
    pub batch_count: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// First offset stored.
    pub first_offset: u64,
    /// One past the last offset stored.
    pub end_offset: u64,
    /// Bytes behind the last whole entry of the open segment that a crash left; the next start cuts them. Not damage.
    pub torn_bytes: u64,
    /// Damage, in order.
    pub defects: Vec<ReadOnlyReason>,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What made it necessary; none if nothing was changed.
    pub defect: Option<ReadOnlyReason>,
    /// First offset that is lost; all from here to `lost_to_offset` are.
    pub lost_from_offset: u64,
    /// One past the last offset known to have been stored.
    pub lost_to_offset: u64,
    /// Files that were set aside, by their new names.
    pub set_aside: Vec<PathBuf>,
    /// The audit file.
    pub audit: Option<PathBuf>,
}

/// A segment file, read from end to end.
struct Survey {
    number: u64,
    path: PathBuf,
    header: Option<SegmentHeader>,
    sealed: bool,
    totals: Totals,
    /// Position behind the last whole entry of the unbroken chain.
    end: u64,
    state_position: u64,
    /// The newest log start that the file tells of.
    log_start_offset: Option<u64>,
    /// End of the offsets found anywhere in the file.
    furthest_offset: u64,
    torn_bytes: u64,
    read_bytes: u64,
    defects: Vec<ReadOnlyReason>,
}

/// Every log under `root`, in the order of their paths.
///
/// # Errors
/// When the disk refuses. Damage is in the reports.
pub async fn verify(disk: &dyn Disk, pool: &BufferPool, root: &Path) -> io::Result<Vec<LogReport>> {
    let mut reports = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let entries = disk.list(&dir).await?;
        if entries.iter().any(|entry| parse_file_name(&entry.name).is_some()) {
            reports.push(verify_log(disk, pool, &dir).await?);
        }
        dirs.extend(entries.iter().filter(|entry| entry.is_dir).map(|entry| dir.join(&entry.name)));
    }
    reports.sort_by(|one, other| one.dir.cmp(&other.dir));
    Ok(reports)
}

/// One log.
///
/// # Errors
/// When the disk refuses.
pub async fn verify_log(disk: &dyn Disk, pool: &BufferPool, dir: &Path) -> io::Result<LogReport> {
    let surveys = survey_log(disk, pool, dir).await?;
    let mut report = LogReport { dir: dir.to_path_buf(), segment_count: surveys.len(), ..LogReport::default() };
    report.identity = surveys.iter().find_map(|survey| survey.header.as_ref()).map(|header| header.identity);
    report.first_offset = surveys.first().map_or(0, |survey| survey.totals.first_offset);
    for survey in surveys {
        report.entry_count += survey.totals.entry_count;
        report.batch_count += survey.totals.batch_count;
        report.read_bytes += survey.read_bytes;
        report.end_offset = report.end_offset.max(survey.furthest_offset);
        report.torn_bytes += survey.torn_bytes;
        report.defects.extend(survey.defects);
    }
    Ok(report)
}

/// Cuts a damaged log before its first defect; one whose first segments are gone starts where it does from then on, and is
/// to be repaired again if it has other defects. Does nothing to a log without defects. The server must be stopped.
/// `checkpoint_dir` holds the checkpoint rings: they vouch for what is cut, so they are set aside too.
///
/// # Errors
/// When the disk refuses; a repair that was interrupted can be run again.
pub async fn repair(disk: &dyn Disk, pool: &BufferPool, dir: &Path, checkpoint_dir: &Path) -> io::Result<RepairReport> {
    let surveys = survey_log(disk, pool, dir).await?;
    let Some(at) = surveys.iter().position(|survey| !survey.defects.is_empty()) else {
        return Ok(RepairReport::default());
    };
    if let Some(lost) = missing_front(disk, pool, dir, &surveys).await {
        return give_up_front(disk, pool, dir, &surveys[0], lost).await;
    }
    let broken = &surveys[at];
    let mut report = RepairReport {
        defect: broken.defects.first().cloned(),
        lost_from_offset: broken.totals.end_offset,
        lost_to_offset: surveys.iter().map(|survey| survey.furthest_offset).max().unwrap_or(0),
        ..RepairReport::default()
    };
    let follows = at == 0 || connects(&surveys[at - 1], broken);
    let keeps = follows && broken.header.is_some() && DATA_START < broken.end;
    if !keeps {
        report.lost_from_offset = at.checked_sub(1).map_or(0, |before| surveys[before].totals.end_offset);
    }
    report.audit = Some(write_audit(disk, pool, dir, &report).await?);
    // From the back, so that an interruption never leaves a gap that looks like another kind of damage.
    for survey in surveys.iter().skip(at + usize::from(keeps)).rev() {
        report.set_aside.push(set_aside(disk, &survey.path).await?);
        disk.sync_dir(dir).await?;
    }
    if keeps {
        report.set_aside.push(copy_aside(disk, pool, &broken.path).await?);
        cut(disk, pool, broken).await?;
    }
    for entry in disk.list(checkpoint_dir).await.unwrap_or_default() {
        if entry.name.starts_with("ring-") && !entry.name.ends_with(".damaged") {
            disk.remove_file(&checkpoint_dir.join(&entry.name)).await?;
        }
    }
    disk.sync_dir(checkpoint_dir).await.ok();
    disk.sync_dir(dir).await?;
    Ok(report)
}

/// The log starts with its first segment from now on; nothing is cut.
async fn give_up_front(
    disk: &dyn Disk,
    pool: &BufferPool,
    dir: &Path,
    first: &Survey,
    lost: Range<u64>,
) -> io::Result<RepairReport> {
    let mut report = RepairReport {
        defect: first.defects.first().cloned(),
        lost_from_offset: lost.start,
        lost_to_offset: lost.end,
        ..RepairReport::default()
    };
    report.audit = Some(write_audit(disk, pool, dir, &report).await?);
    accepted::write(disk, pool, dir, lost.end).await?;
    Ok(report)
}

fn connects(before: &Survey, after: &Survey) -> bool {
    let first = after.header.as_ref().map(|header| header.first_index);
    before.number + 1 == after.number && first == Some(before.totals.last_index + 1)
}

async fn survey_log(disk: &dyn Disk, pool: &BufferPool, dir: &Path) -> io::Result<Vec<Survey>> {
    let mut numbers: Vec<u64> = disk.list(dir).await?.iter().filter_map(|entry| parse_file_name(&entry.name)).collect();
    numbers.sort_unstable();
    let mut surveys: Vec<Survey> = Vec::with_capacity(numbers.len());
    for (at, &number) in numbers.iter().enumerate() {
        let last = at + 1 == numbers.len();
        let mut survey = survey_segment(disk, pool, dir, number, last).await?;
        if let Some(before) = surveys.last()
            && before.defects.is_empty()
            && survey.header.is_some()
            && !connects(before, &survey)
        {
            survey.defects.insert(0, defect(&survey.path, 0, "entries are missing before this segment"));
        }
        surveys.push(survey);
    }
    if missing_front(disk, pool, dir, &surveys).await.is_some() {
        let first = &mut surveys[0];
        first.defects.insert(0, defect(&first.path, 0, MISSING_FRONT));
    }
    Ok(surveys)
}

/// Offsets that a log should have before its first segment, unless they were given up.
async fn missing_front(disk: &dyn Disk, pool: &BufferPool, dir: &Path, surveys: &[Survey]) -> Option<Range<u64>> {
    let log_start = surveys.iter().filter_map(|survey| survey.log_start_offset).max()?;
    let first_offset = surveys.first()?.header.as_ref()?.first_offset;
    let accepted = accepted::read(disk, pool, dir).await.unwrap_or(0);
    (log_start < first_offset && accepted < first_offset).then_some(log_start..first_offset)
}

fn defect(path: &Path, position: u64, what: &str) -> ReadOnlyReason {
    ReadOnlyReason { file: path.to_path_buf(), position, what: what.to_owned() }
}

async fn survey_segment(disk: &dyn Disk, pool: &BufferPool, dir: &Path, number: u64, last: bool) -> io::Result<Survey> {
    let path = dir.join(file_name(number));
    let file = disk.open(&path, OpenMode::Read).await?;
    let len = file.len().await?;
    let header = SegmentHeader::decode(&read_block(&*file, pool, 0).await?).filter(|header| header.number == number);
    let (first_index, first_offset) =
        header.as_ref().map_or((1, 0), |header| (header.first_index, header.first_offset));
    let mut survey = Survey {
        number,
        path,
        sealed: false,
        totals: Totals::new(first_index, first_offset),
        end: DATA_START,
        state_position: 0,
        log_start_offset: None,
        furthest_offset: first_offset,
        torn_bytes: 0,
        read_bytes: 0,
        defects: Vec::new(),
        header,
    };
    let Some(header) = survey.header.clone() else {
        let mut scanner = Scanner::new(file, pool, 0, len);
        // A segment that was being created when the power failed; the next start removes it.
        if !(last && scanner.is_zero_from(DATA_START).await?) {
            survey.defects.push(defect(&survey.path, 0, "damaged segment header"));
        }
        return Ok(survey);
    };
    let mut scanner = Scanner::new(Rc::clone(&file), pool, header.nonce, len);
    let chain_footer = follow(&mut survey, &mut scanner).await?;
    let block = BLOCK_BYTES as u64;
    let end_footer = match len.checked_sub(block).filter(|at| DATA_START <= *at && len.is_multiple_of(block)) {
        Some(at) => Footer::decode(&read_block(&*file, pool, at).await?, header.nonce).map(|(_, footer)| footer),
        None => None,
    };
    let footer = chain_footer.or(end_footer);
    survey.sealed = footer.is_some();
    judge(&mut survey, &mut scanner, footer, len, last).await?;
    survey.read_bytes = scanner.read_bytes;
    Ok(survey)
}

/// Follows the unbroken chain of entries; returns the footer if it ends at one.
async fn follow(survey: &mut Survey, scanner: &mut Scanner) -> io::Result<Option<Footer>> {
    let mut position = DATA_START;
    while let Some(entry) = scanner.next(&mut position).await? {
        if entry.header.kind == Kind::Footer {
            let whole = [&entry.header.encode()[..], scanner.payload(&entry)].concat();
            return Ok(Footer::decode(&whole, entry.header.nonce).map(|(_, footer)| footer));
        }
        let expected = survey.totals.last_index + u64::from(entry.header.kind.is_replicated());
        if entry.header.log_index != expected {
            break;
        }
        if let Some(batch) = &entry.batch {
            let end_offset = batch.end_offset();
            let time_us = batch.server.append_time_us;
            survey.totals.add_batch(expected, entry.header_crc, batch.producer.crc, end_offset, time_us);
            survey.furthest_offset = end_offset;
        } else {
            survey.totals.add_entry(&entry.header, entry.header_crc);
            let log_start = match entry.header.kind {
                Kind::State => {
                    StateRecord::decode(scanner.payload(&entry)).and_then(|record| log_start_of(record.upper))
                }
                Kind::LogStart => scanner.payload(&entry).first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
                _ => None,
            };
            survey.log_start_offset = survey.log_start_offset.max(log_start);
            if entry.header.kind == Kind::State && entry.header.flags & FLAG_INDEX_ONLY == 0 {
                survey.state_position = entry.position;
            }
        }
        survey.end = position;
    }
    Ok(None)
}

async fn judge(
    survey: &mut Survey,
    scanner: &mut Scanner,
    footer: Option<Footer>,
    len: u64,
    last: bool,
) -> io::Result<()> {
    let stop = next_start(survey.end);
    if let Some(footer) = footer {
        survey.furthest_offset = survey.furthest_offset.max(footer.totals.end_offset);
        let whole = survey.end == footer.data_end || stop == footer.data_end;
        let same = Totals { padding_bytes: footer.totals.padding_bytes, ..survey.totals } == footer.totals;
        if !whole {
            survey.defects.push(defect(&survey.path, stop, "a sealed segment is damaged"));
        } else if !same {
            survey.defects.push(defect(&survey.path, stop, "a sealed segment differs from its footer"));
        }
        return Ok(());
    }
    if scanner.is_zero_from(stop).await? && last {
        return Ok(());
    }
    let (mut durable_index, mut durable_position, mut sealed_here) = (0, 0, false);
    let mut block = round_up(stop);
    while block < len {
        let mut position = block;
        while let Some(entry) = scanner.next(&mut position).await? {
            if let Some(batch) = &entry.batch {
                survey.furthest_offset = survey.furthest_offset.max(batch.end_offset());
            }
            if entry.header.kind == Kind::Footer {
                let whole = [&entry.header.encode()[..], scanner.payload(&entry)].concat();
                let footer = Footer::decode(&whole, entry.header.nonce).map(|(_, footer)| footer);
                sealed_here |= footer.is_some_and(|footer| footer.data_end == survey.end || footer.data_end == stop);
            } else if survey.totals.last_index < entry.header.log_index || !entry.header.kind.is_replicated() {
                durable_index = durable_index.max(entry.header.durable_index);
                durable_position = durable_position.max(u64::from(entry.header.durable_block) * BLOCK_BYTES as u64);
            }
        }
        block = round_up(position.max(block + 1));
    }
    if sealed_here {
        return Ok(());
    }
    if !last {
        survey.defects.push(defect(&survey.path, stop, "the footer of a sealed segment is damaged"));
    } else if survey.totals.last_index < durable_index || stop < durable_position {
        survey.defects.push(defect(&survey.path, stop, "damage before a point that was proven durable"));
    } else {
        survey.torn_bytes = len - stop.min(len);
    }
    Ok(())
}

async fn read_block(file: &dyn File, pool: &BufferPool, position: u64) -> io::Result<Vec<u8>> {
    let (buffer, read) = file.read(pool.take(BLOCK_BYTES), position).await;
    let mut bytes = buffer.as_slice()[..read?.min(BLOCK_BYTES)].to_vec();
    bytes.resize(BLOCK_BYTES, 0);
    Ok(bytes)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

async fn set_aside(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    let to = aside(path);
    disk.rename(path, &to).await?;
    Ok(to)
}

/// Copies a file that will be cut. An older copy is from an interrupted repair and complete or replaced.
async fn copy_aside(disk: &dyn Disk, pool: &BufferPool, path: &Path) -> io::Result<PathBuf> {
    let to = aside(path);
    let from = disk.open(path, OpenMode::Read).await?;
    let len = from.len().await?;
    let copy = match disk.open(&to, OpenMode::CreateNew).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(&to, OpenMode::ReadWrite).await?,
        other => other?,
    };
    let mut at = 0;
    while at < len {
        let (mut buffer, read) = from.read(pool.take(1 << 20), at).await;
        let count = read?;
        if count == 0 {
            break;
        }
        let padded = count.next_multiple_of(BLOCK_BYTES).min(buffer.len());
        buffer.as_mut_slice()[count..padded].fill(0);
        copy.write(buffer.freeze(padded), at, Durable::No).await?;
        at += count as u64;
    }
    copy.sync().await?;
    Ok(to)
}

/// Seals a segment behind its last whole entry.
async fn cut(disk: &dyn Disk, pool: &BufferPool, survey: &Survey) -> io::Result<()> {
    let Some(header) = &survey.header else { return Ok(()) };
    let footer = Footer {
        data_end: survey.end,
        index_position: 0,
        state_position: survey.state_position,
        term: header.previous_term,
        totals: survey.totals,
    };
    let mut block = pool.take_zeroed(BLOCK_BYTES);
    footer.encode_into(block.as_mut_slice(), header.nonce);
    let file = disk.open(&survey.path, OpenMode::ReadWrite).await?;
    file.write(block.freeze(BLOCK_BYTES), round_up(survey.end), Durable::Yes).await?;
    file.truncate(round_up(survey.end) + BLOCK_BYTES as u64).await?;
    file.sync().await
}

async fn write_audit(disk: &dyn Disk, pool: &BufferPool, dir: &Path, report: &RepairReport) -> io::Result<PathBuf> {
    let count = disk.list(dir).await?.iter().filter(|entry| entry.name.starts_with("repair-")).count();
    let path = dir.join(format!("repair-{:04}.audit", count + 1));
    let defect = report.defect.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(
        "Loss accepted by an operator.\nDefect: {defect}\nLost offsets: {}..{}\n",
        report.lost_from_offset, report.lost_to_offset
    );
    text.truncate(BLOCK_BYTES - 1);
    let mut block = pool.take(BLOCK_BYTES);
    block.as_mut_slice().fill(b'\n');
    block.as_mut_slice()[..text.len()].copy_from_slice(text.as_bytes());
    let file = disk.open(&path, OpenMode::CreateNew).await?;
    file.write(block.freeze(BLOCK_BYTES), 0, Durable::Yes).await?;
    file.sync().await?;
    disk.sync_dir(dir).await?;
    Ok(path)
}

/// Moves a directory that no metadata knows to `quarantine`, under its own name and the first free number. Nothing is
/// ever deleted because it is unknown.
///
/// # Errors
/// When the disk refuses.
pub async fn quarantine(disk: &dyn Disk, dir: &Path, quarantine_dir: &Path) -> io::Result<PathBuf> {
    disk.create_dir_all(quarantine_dir).await?;
    let taken: Vec<String> = disk.list(quarantine_dir).await?.into_iter().map(|entry| entry.name).collect();
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let free = (1_u64..).map(|number| format!("{name}.{number}")).find(|name| !taken.contains(name));
    let to = quarantine_dir.join(free.expect("numbers do not run out"));
    disk.rename(dir, &to).await?;
    for parent in [dir.parent(), Some(quarantine_dir), quarantine_dir.parent()].into_iter().flatten() {
        disk.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).await?;
    }
    Ok(to)
}
