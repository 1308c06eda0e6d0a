//! What a process has once: version, counts of live handles, closing all, the log.

use std::ffi::{c_char, c_void};
use std::sync::mpsc;

use levada_core::{Error as CoreError, ErrorCode};
use levada_ffi as ffi;
use levada_ffi::logs::{self, LogReader};

use crate::abi::{LEVADA_ABI_VERSION, c_text, close_timeout, enter, out, put_optional, text};
use crate::error::Error;
use crate::handle::{make, usage};
use crate::value::Value;

/// The number of the binary interface this library has: compare with LEVADA_ABI_VERSION of the header.
#[unsafe(no_mangle)]
pub extern "C" fn levada_abi_version() -> u32 {
    LEVADA_ABI_VERSION
}

/// The version of this library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn levada_version_string() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// How many handles are live in this process, for tests that nothing is forgotten: a record {clients, producers, consumers,
/// operations, queues}.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_stats(value: *mut *mut Value, err: *mut *mut Error) -> i32 {
    enter(err, || {
        *out(value, "value")? = make::<Value>(ffi::stats().into());
        Ok(())
    })
}

/// Closes every client that is still open, each within that time, for the end of a process; `unsettled` (it may be NULL) gets
/// how much was left unacknowledged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_close_all(timeout_ms: i64, unsettled: *mut usize, err: *mut *mut Error) -> i32 {
    enter(err, || {
        put_optional(unsettled, ffi::close_all(close_timeout(timeout_ms)?));
        Ok(())
    })
}

/// Gets a line of the library's log: `level` is `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`, `target` the module it comes from,
/// the time is in microseconds since the Unix epoch. The texts live during the call.
pub type LogCallback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        level: *const c_char,
        target: *const c_char,
        message: *const c_char,
        timestamp_us: i64,
    ),
>;

/// A function of the program, with what it wants to be given.
struct Callback {
    call: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char, i64),
    user: *mut c_void,
}

// SAFETY: the caller owes a function that may be called from another thread with that pointer.
unsafe impl Send for Callback {}

/// Begins to pass lines of the log of `level` (`error`, `warn`, `info`, `debug`, `trace`) and above to a function, from a thread
/// of its own, until the process ends. Once for each process. A function that is slow loses lines; it must not fork.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_log_subscribe(
    level: *const c_char,
    callback: LogCallback,
    user: *mut c_void,
    err: *mut *mut Error,
) -> i32 {
    enter(err, || {
        let level = text(level, "level")?;
        let call = callback.ok_or_else(|| usage("callback", "callback is NULL"))?;
        let callback = Callback { call, user };
        let (give, wait_for) = mpsc::channel::<LogReader>();
        let thread = std::thread::Builder::new().name("levada-log".to_owned()).spawn(move || {
            // Without a reader the subscription failed, and there is nothing to do.
            if let Ok(reader) = wait_for.recv() {
                pass_on(&reader, &callback);
            }
        });
        let thread = thread
            .map_err(|error| CoreError::new(ErrorCode::ClientInternal, format!("no thread for the log: {error}")))?;
        let handle = thread.thread().clone();
        let reader = logs::subscribe(level, Box::new(move || handle.unpark()))?;
        // The thread waits for it.
        let _ = give.send(reader);
        Ok(())
    })
}

fn pass_on(reader: &LogReader, callback: &Callback) {
    loop {
        for record in reader.drain() {
            let (level, target, message) = (c_text(record.level), c_text(&record.target), c_text(&record.message));
            // SAFETY: the caller owes a function of this type; the texts live during the call.
            unsafe {
                (callback.call)(callback.user, level.as_ptr(), target.as_ptr(), message.as_ptr(), record.timestamp_us);
            }
        }
        std::thread::park();
    }
}
