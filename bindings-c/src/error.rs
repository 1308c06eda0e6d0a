//! Errors as C reads them.

use std::ffi::{CString, c_char};
use std::ptr::null;

use levada_core::Error as CoreError;

use crate::abi::{ask, c_text, optional_text};
use crate::handle::{Opaque, get, release};

/// Why a call failed. Owned by whoever received it; texts in it live as long as it does.
#[derive(Debug)]
pub struct Error {
    _opaque: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct Content {
    core: CoreError,
    name: CString,
    class: CString,
    message: CString,
    details: Vec<(CString, CString)>,
}

impl Opaque for Error {
    type Content = Content;
    const MAGIC: u32 = 0x4C56_4500;
    const NAME: &'static str = "levada_error_t";
}

impl From<CoreError> for Content {
    fn from(core: CoreError) -> Content {
        Content {
            name: c_text(core.name()),
            class: c_text(core.class().name()),
            message: c_text(core.message()),
            details: core.details().map(|(name, value)| (c_text(name), c_text(value))).collect(),
            core,
        }
    }
}

impl Content {
    pub(crate) fn number(&self) -> i32 {
        i32::from(self.core.number())
    }
}

/// The stable number of the error, one of LEVADA_E_*: the same that the call returned. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_code(error: *const Error) -> i32 {
    ask(0, || get(error).map(Content::number))
}

/// Its stable name, such as `TOPIC_NOT_FOUND`. Never NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_name(error: *const Error) -> *const c_char {
    ask(c"".as_ptr(), || Ok(get(error)?.name.as_ptr()))
}

/// What kind of thing went wrong, one of LEVADA_CLASS_*; decide by this. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_class(error: *const Error) -> i32 {
    ask(0, || Ok(i32::from(get(error)?.core.class().code())))
}

/// The name of its class, such as `not_found`. Never NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_class_name(error: *const Error) -> *const c_char {
    ask(c"".as_ptr(), || Ok(get(error)?.class.as_ptr()))
}

/// Whether the same call may succeed later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_is_retriable(error: *const Error) -> bool {
    ask(false, || Ok(get(error)?.core.is_retriable()))
}

/// Whether the call may have taken effect although it failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_maybe_applied(error: *const Error) -> bool {
    ask(false, || Ok(get(error)?.core.maybe_applied()))
}

/// How long the server asks to wait before another attempt, in milliseconds; 0 leaves it to you.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_retry_after_ms(error: *const Error) -> u32 {
    ask(0, || Ok(get(error)?.core.retry_after_ms()))
}

/// What went wrong, for a person. Never NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_message(error: *const Error) -> *const c_char {
    ask(c"".as_ptr(), || Ok(get(error)?.message.as_ptr()))
}

/// A named value of the error, as the table of errors lists them for its code; NULL if it has none of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_detail(error: *const Error, name: *const c_char) -> *const c_char {
    ask(null(), || {
        let (error, wanted) = (get(error)?, optional_text(name, "name")?.unwrap_or_default());
        let found = error.details.iter().find(|(name, _)| name.as_bytes() == wanted.as_bytes());
        Ok(found.map_or(null(), |(_, value)| value.as_ptr()))
    })
}

/// How many named values it has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_detail_count(error: *const Error) -> usize {
    ask(0, || Ok(get(error)?.details.len()))
}

/// The name of one of them; NULL beyond the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_detail_name(error: *const Error, index: usize) -> *const c_char {
    ask(null(), || Ok(get(error)?.details.get(index).map_or(null(), |(name, _)| name.as_ptr())))
}

/// The value of one of them; NULL beyond the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_detail_value(error: *const Error, index: usize) -> *const c_char {
    ask(null(), || Ok(get(error)?.details.get(index).map_or(null(), |(_, value)| value.as_ptr())))
}

/// Frees an error that a call gave; not one borrowed from an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn levada_error_free(error: *mut Error) {
    release(error);
}
