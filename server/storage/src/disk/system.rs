//! The system calls, blocking. Every path is walked from the data directory one component at a time without following
//! symbolic links, so nothing outside it can be opened or changed.
//!
//! Calls on files, for those who inject failures from outside: a durable write is `pwritev2` with `RWF_DSYNC` (`pwrite64`
//! and `fdatasync` where the kernel or file system does not know that flag), another write is `pwrite64`, a read is
//! `pread64`, a sync is `fdatasync`, a sync of a directory is `fsync`, space is `fallocate` and `ftruncate`.
#![expect(unsafe_code, reason = "system calls that the standard library does not offer")]

use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path};

use super::{BLOCK_BYTES, DirEntry, Durable, OpenMode, Space};
use crate::buffer::AlignedBuffer;

const DIRECTORY_MODE: libc::mode_t = 0o700;
const FILE_MODE: libc::mode_t = 0o600;

/// The directory that holds everything.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let dir = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        Ok(Self { dir: dir.into() })
    }

    pub(super) fn open_file(&self, path: &Path, mode: OpenMode, direct: bool) -> io::Result<File> {
        let (dir, name) = self.place(path)?;
        let access = match mode {
            OpenMode::Read => libc::O_RDONLY,
            OpenMode::ReadWrite => libc::O_RDWR,
            OpenMode::CreateNew => libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
        };
        let opened = open_at(dir.as_fd(), &name, access | if direct { libc::O_DIRECT } else { 0 }).map(File::from);
        // Some file systems open directories here, others refuse direct I/O on them: the same answer for all.
        let is_dir = match &opened {
            Ok(file) => file.metadata()?.is_dir(),
            Err(_) => open_at(dir.as_fd(), &name, libc::O_PATH | libc::O_DIRECTORY).is_ok(),
        };
        if is_dir && mode != OpenMode::CreateNew { Err(errno(libc::EISDIR)) } else { opened }
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut dir = self.dir.try_clone()?;
        for name in components(path)? {
            // SAFETY: the descriptor is open and the name ends in a zero byte.
            let created = check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), DIRECTORY_MODE) });
            match created {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
                _ => dir = open_at(dir.as_fd(), &name, libc::O_PATH | libc::O_DIRECTORY)?,
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = read_dir(self.open_dir(path)?)?;
        entries.sort();
        Ok(entries)
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::from(self.open_dir(path)?).sync_all()
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        // SAFETY: both descriptors are open and both names end in a zero byte.
        let renamed =
            unsafe { libc::renameat(from_dir.as_raw_fd(), from_name.as_ptr(), to_dir.as_raw_fd(), to_name.as_ptr()) };
        check(renamed).map(drop)
    }

    pub(super) fn remove(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        let flags = if is_dir { libc::AT_REMOVEDIR } else { 0 };
        // SAFETY: the descriptor is open and the name ends in a zero byte.
        check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
    }

    pub(super) fn space(&self, path: &Path) -> io::Result<Space> {
        let place = match path.parent() {
            None => self.dir.try_clone()?,
            Some(_) => self.walk(components(path)?, libc::O_PATH)?,
        };
        let mut found = MaybeUninit::<libc::statvfs64>::uninit();
        // SAFETY: the descriptor is open and the structure is as large as the call expects.
        check(unsafe { libc::fstatvfs64(place.as_raw_fd(), found.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so it filled the structure in.
        let found = unsafe { found.assume_init() };
        Ok(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let dir = self.walk(components(path)?, libc::O_PATH | libc::O_DIRECTORY)?;
        open_at(dir.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY)
    }

    /// The directory that holds `path`, and its last component.
    fn place(&self, path: &Path) -> io::Result<(OwnedFd, CString)> {
        let mut names = components(path)?;
        let name = names.pop().ok_or_else(|| errno(libc::EINVAL))?;
        Ok((self.walk(names, libc::O_PATH | libc::O_DIRECTORY)?, name))
    }

    /// Opens the end of a path; everything before it is a directory.
    fn walk(&self, names: Vec<CString>, last_flags: i32) -> io::Result<OwnedFd> {
        let mut place = self.dir.try_clone()?;
        let count = names.len();
        for (index, name) in names.into_iter().enumerate() {
            let flags = if index + 1 == count { last_flags } else { libc::O_PATH | libc::O_DIRECTORY };
            place = open_at(place.as_fd(), &name, flags)?;
        }
        Ok(place)
    }
}

/// Writes everything, durably if asked.
pub(super) fn write_all(file: &File, data: &[u8], offset: u64, durable: Durable) -> io::Result<()> {
    let mut done = 0;
    let mut sync_after = false;
    while done < data.len() {
        let rest = &data[done..];
        let at = offset + done as u64;
        let wrote = match durable {
            Durable::Yes if !sync_after => write_dsync(file, rest, at),
            _ => file.write_at(rest, at),
        };
        match wrote {
            Ok(0) => return Err(errno(libc::EIO)),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !sync_after && durable == Durable::Yes && is_unsupported(&error) => sync_after = true,
            Err(error) => return Err(error),
        }
    }
    if sync_after { file.sync_data() } else { Ok(()) }
}

/// Fills the buffer from `offset` as far as the file goes.
pub(super) fn read_full(file: &File, buffer: &mut AlignedBuffer, offset: u64) -> io::Result<usize> {
    let bytes = buffer.as_mut_slice();
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                if ends_the_file(done) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Only the end of a file makes a read stop within a block; asking direct I/O for the rest would be an error.
pub(super) fn ends_the_file(done: usize) -> bool {
    !done.is_multiple_of(BLOCK_BYTES)
}

pub(super) fn reserve(file: &File, len_bytes: u64) -> io::Result<()> {
    let len = libc::off64_t::try_from(len_bytes).map_err(|_| errno(libc::EFBIG))?;
    if len == 0 {
        return Ok(());
    }
    loop {
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        match check(unsafe { libc::fallocate64(file.as_raw_fd(), 0, 0, len) }) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A file system without reservations: at least the length is right, and full shows when writing.
            Err(error) if is_unsupported(&error) => return grow(file, len_bytes),
            Err(error) => return Err(error),
        }
    }
}

fn grow(file: &File, len_bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < len_bytes { file.set_len(len_bytes) } else { Ok(()) }
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

fn write_dsync(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let offset = libc::off64_t::try_from(offset).map_err(|_| errno(libc::EINVAL))?;
    // SAFETY: the one part describes `data`, which outlives the call and is only read.
    let count = unsafe { libc::pwritev64v2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    loop {
        // SAFETY: the descriptor is open and the name ends in a zero byte.
        match check(unsafe { libc::openat64(dir.as_raw_fd(), name.as_ptr(), flags, FILE_MODE) }) {
            // SAFETY: the call returned a new descriptor that nothing else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Entries of a directory but `.` and `..`. A name that is not UTF-8 is none of ours and is shown approximately.
fn read_dir(dir: OwnedFd) -> io::Result<Vec<DirEntry>> {
    let fd = dir.into_raw_fd();
    // SAFETY: the descriptor is an open directory; on success the stream owns it.
    let stream = unsafe { libc::fdopendir(fd) };
    if stream.is_null() {
        let error = io::Error::last_os_error();
        // SAFETY: the stream does not own the descriptor after all, and nothing else does.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        return Err(error);
    }
    let mut entries = Vec::new();
    let outcome = loop {
        // SAFETY: errno of this thread, to tell the end from an error.
        unsafe { *libc::__errno_location() = 0 };
        // SAFETY: the stream is open and used by this thread only.
        let entry = unsafe { libc::readdir64(stream) };
        if entry.is_null() {
            let error = io::Error::last_os_error();
            break if error.raw_os_error() == Some(0) { Ok(()) } else { Err(error) };
        }
        // SAFETY: the entry is valid until the next call, and its name ends in a zero byte.
        let (name, kind) = unsafe { (CStr::from_ptr((&raw const (*entry).d_name).cast()), (*entry).d_type) };
        if name == c"." || name == c".." {
            continue;
        }
        let is_dir = match kind {
            libc::DT_UNKNOWN => open_at_raw(fd, name, libc::O_PATH | libc::O_DIRECTORY).is_ok(),
            kind => kind == libc::DT_DIR,
        };
        entries.push(DirEntry { name: name.to_string_lossy().into_owned(), is_dir });
    };
    // SAFETY: the stream is open, and closed exactly once.
    unsafe { libc::closedir(stream) };
    outcome.map(|()| entries)
}

fn open_at_raw(dir: i32, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the caller's stream keeps the descriptor open during the call.
    open_at(unsafe { BorrowedFd::borrow_raw(dir) }, name, flags)
}

/// Names from the root down; a path that could leave the data directory is refused.
fn components(path: &Path) -> io::Result<Vec<CString>> {
    let c_string = |name: &OsStr| CString::new(name.as_bytes()).map_err(|_| errno(libc::EINVAL));
    let name = |component| match component {
        Component::CurDir => None,
        Component::Normal(name) => Some(c_string(name)),
        Component::Prefix(_) | Component::RootDir | Component::ParentDir => Some(Err(errno(libc::EINVAL))),
    };
    path.components().filter_map(name).collect()
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
