//! Waiting: for operations in the calling thread, with a way for another thread or a signal handler to end that wait; and the
//! operations of `_submit` calls, which can be cancelled.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use levada_core::{Error as CoreError, ErrorCode, Result};
use levada_ffi as ffi;
use levada_ffi::{Output, To};

use crate::abi::{enter, out_optional};
use crate::error::Error;
use crate::handle::{Opaque, get, get_optional, make, release};
use crate::queue::Queue;

/// A call under way, made by a `_submit` function. Its outcome comes to the queue, once, whatever is done with this.
#[derive(Debug)]
pub struct Operation {
    _opaque: [u8; 0],
}

impl Opaque for Operation {
    type Content = ffi::Operation;
    const MAGIC: u32 = 0x4C56_5000;
    const NAME: &'static str = "levada_operation_t";
}

/// Ends blocking calls from elsewhere: from another thread, or from a signal handler.
#[derive(Debug)]
pub struct Interrupt {
    _opaque: [u8; 0],
}

impl Opaque for Interrupt {
    type Content = Arc<AtomicBool>;
    const MAGIC: u32 = 0x4C56_4900;
    const NAME: &'static str = "levada_interrupt_t";
}

thread_local! {
    /// What ends the waits of this thread.
    static IN_USE: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Whether somebody wants the calling thread to stop waiting.
pub(crate) fn is_interrupted() -> bool {
    IN_USE.with_borrow(|used| used.as_ref().is_some_and(|raised| raised.load(Ordering::Relaxed)))
}

pub(crate) fn interrupted() -> CoreError {
    CoreError::new(ErrorCode::Cancelled, "the wait was interrupted").with_maybe_applied(false)
}

/// Waits for an operation in the calling thread. Giving up cancels it, and what it has come to is told.
pub(crate) fn wait(operation: &ffi::Operation, timeout: Option<Duration>) -> Result<Output> {
    if let Some(outcome) = operation.wait(timeout, &mut || !is_interrupted()) {
        return outcome;
    }
    operation.cancel();
    match operation.wait(Some(Duration::ZERO), &mut || false) {
        Some(Err(error)) if error.is(ErrorCode::Cancelled) && !is_interrupted() => {
            let text = "the call took longer than its time-out";
            Err(CoreError::new(ErrorCode::ClientTimeout, text).with_maybe_applied(error.maybe_applied()))
        }
        Some(outcome) => outcome,
        None => Err(CoreError::new(ErrorCode::ClientInternal, "a cancelled operation has no outcome")),
    }
}

/// The error of an output that its call does not give.
pub(crate) fn unexpected(output: &Output) -> CoreError {
    CoreError::new(ErrorCode::ClientInternal, format!("an outcome of another call: {output:?}"))
}

/// Makes a call whose outcome goes to a queue.
pub(crate) fn submit(
    queue: *const Queue,
    token: u64,
    operation: *mut *mut Operation,
    err: *mut *mut Error,
    call: impl FnOnce(To) -> Result<ffi::Operation>,
) -> i32 {
    enter(err, || {
        let place = out_optional(operation);
        let submitted = call(To::Queue(get(queue)?.clone(), token))?;
        if let Some(place) = place {
            *place = make::<Operation>(submitted);
        }
        Ok(())
    })
}

/// Gives the call up, unless it has ended: its event then carries LEVADA_E_CANCELLED, whose levada_error_maybe_applied tells
/// whether it may take effect all the same. Cancelling again, or too late, does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_operation_cancel(operation: *const Operation, err: *mut *mut Error) -> i32 {
    enter(err, || {
        get(operation)?.cancel();
        Ok(())
    })
}

/// Forgets an operation, which goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_operation_free(operation: *mut Operation) {
    release(operation);
}

/// An interrupt, not raised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_interrupt_new() -> *mut Interrupt {
    make::<Interrupt>(Arc::default())
}

/// From now on, every blocking call of the calling thread ends with LEVADA_E_CANCELLED within 100 ms of the interrupt being
/// raised. NULL: none does. The thread keeps it in use even if it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_interrupt_use(interrupt: *const Interrupt, err: *mut *mut Error) -> i32 {
    enter(err, || {
        let interrupt = get_optional(interrupt)?.cloned();
        IN_USE.set(interrupt);
        Ok(())
    })
}

/// Raises it, until it is cleared. From any thread; also from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_interrupt_raise(interrupt: *const Interrupt) {
    if let Ok(raised) = get(interrupt) {
        raised.store(true, Ordering::Relaxed);
    }
}

/// Takes it back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_interrupt_clear(interrupt: *const Interrupt) {
    if let Ok(raised) = get(interrupt) {
        raised.store(false, Ordering::Relaxed);
    }
}

/// Frees an interrupt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_interrupt_free(interrupt: *mut Interrupt) {
    release(interrupt);
}
