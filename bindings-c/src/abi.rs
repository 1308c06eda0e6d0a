//! What crosses the border: constants, slices, structs that say their size, text, timeouts, and the way out of every function.

use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;
use std::time::Duration;

use levada_core::{Error as CoreError, Result};
use levada_ffi::guard;

use crate::error::Error;
use crate::handle::{make, usage};

/// What the application binary interface is called: the number in the library's SONAME. Raised on any incompatible change.
pub const LEVADA_ABI_VERSION: u32 = 1;

/// The time-out a call has unless told otherwise, in place of milliseconds.
pub const LEVADA_TIMEOUT_DEFAULT: i64 = -1;
/// No time-out, in place of milliseconds.
pub const LEVADA_TIMEOUT_INFINITE: i64 = -2;

/// How long `close` lets things settle by default.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What stands for ever where a limit is needed: about 30 years.
const FOR_EVER: Duration = Duration::from_secs(1_000_000_000);

/// Bytes of somebody else: `data` is NULL where they are absent, which differs from there being none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The first byte, or NULL: absent.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

impl Slice {
    pub(crate) const ABSENT: Slice = Slice { data: std::ptr::null(), len: 0 };

    pub(crate) fn of(bytes: Option<&[u8]>) -> Slice {
        bytes.map_or(Slice::ABSENT, |bytes| Slice { data: bytes.as_ptr(), len: bytes.len() })
    }
}

/// A struct of the C API that begins with its size.
///
/// # Safety
/// `repr(C)`, begins with `struct_size: u32`, and any bytes, zero included, are a value of it.
pub(crate) unsafe trait Sized32: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in the first version of the library: no program has a smaller one.
    const FIRST_SIZE: usize;
}

fn size_of_given<T: Sized32>(pointer: *const T) -> Result<usize> {
    if pointer.is_null() {
        return Err(usage(T::NAME, format!("{} is NULL", T::NAME)));
    }
    // SAFETY: not NULL; the caller owes a struct that begins with its size.
    let given = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    if given < T::FIRST_SIZE {
        let text =
            format!("{} says struct_size {given}, at least {} is needed: set it to sizeof", T::NAME, T::FIRST_SIZE);
        return Err(usage("struct_size", text));
    }
    Ok(given)
}

/// A struct of the caller; what an older program does not have is zero.
pub(crate) fn read<T: Sized32>(pointer: *const T) -> Result<T> {
    let given = size_of_given(pointer)?;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the caller's struct has `given` bytes and ours has `size_of::<T>()`; the smaller is copied, and any bytes are a
    // value of T.
    unsafe {
        let count = given.min(size_of::<T>());
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), count);
        Ok(value.assume_init())
    }
}

/// Fills a struct of the caller, except for its size; what only a newer program has is zero.
pub(crate) fn write<T: Sized32>(pointer: *mut T, value: &T) -> Result<()> {
    let given = size_of_given(pointer)?;
    let skip = size_of::<u32>();
    let ours = size_of::<T>().min(given);
    // SAFETY: the caller's struct has `given` bytes; `ours` is no more than either has.
    unsafe {
        let to = pointer.cast::<u8>();
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>().add(skip), to.add(skip), ours - skip);
        to.add(ours).write_bytes(0, given - ours);
    }
    Ok(())
}

/// The same where the caller may not care.
pub(crate) fn write_optional<T: Sized32>(pointer: *mut T, value: impl FnOnce() -> T) -> Result<()> {
    if pointer.is_null() { Ok(()) } else { write(pointer, &value()) }
}

/// Structs of the caller in a row, each as large as the first says.
pub(crate) fn read_all<T: Sized32>(pointer: *const T, count: usize) -> Result<Vec<T>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let stride = size_of_given(pointer)?;
    (0..count).map(|index| read(pointer.cast::<u8>().wrapping_add(index.saturating_mul(stride)).cast::<T>())).collect()
}

/// Bytes of the caller; `None` for NULL.
pub(crate) fn bytes<'a>(data: *const u8, len: usize, name: &str) -> Result<Option<&'a [u8]>> {
    if data.is_null() {
        return if len == 0 { Ok(None) } else { Err(usage(name, format!("{name} is NULL and {len} bytes long"))) };
    }
    if isize::try_from(len).is_err() {
        return Err(usage(name, format!("{name} is longer than memory")));
    }
    // SAFETY: the caller owes `len` readable bytes that stay as they are during the call.
    Ok(Some(unsafe { std::slice::from_raw_parts(data, len) }))
}

/// Numbers of the caller.
pub(crate) fn numbers<'a>(data: *const u32, count: usize, name: &str) -> Result<&'a [u32]> {
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() || isize::try_from(count.saturating_mul(4)).is_err() {
        return Err(usage(name, format!("{name} is not a list of {count} numbers")));
    }
    // SAFETY: the caller owes `count` readable numbers, aligned as C aligns them, that stay as they are during the call.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// Text of the caller.
pub(crate) fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    optional_text(pointer, name)?.ok_or_else(|| usage(name, format!("{name} is NULL")))
}

/// Text of the caller; `None` for NULL.
pub(crate) fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller owes text that ends with NUL and stays as it is during the call.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(Some).map_err(|_| usage(name, format!("{name} is not UTF-8")))
}

/// Texts of the caller.
pub(crate) fn texts(pointers: *const *const c_char, count: usize, name: &str) -> Result<Vec<String>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if pointers.is_null() || isize::try_from(count.saturating_mul(size_of::<*const c_char>())).is_err() {
        return Err(usage(name, format!("{name} is not a list of {count} texts")));
    }
    // SAFETY: the caller owes `count` readable pointers, aligned as C aligns them, that stay as they are during the call.
    let pointers = unsafe { std::slice::from_raw_parts(pointers, count) };
    pointers.iter().map(|pointer| Ok(text(*pointer, name)?.to_owned())).collect()
}

/// Text for C: what follows a NUL is cut.
pub(crate) fn c_text(text: &str) -> CString {
    let end = text.bytes().position(|byte| byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Where an outcome is put; it is NULL until then.
pub(crate) fn out<'a, T>(place: *mut *mut T, name: &str) -> Result<&'a mut *mut T> {
    // SAFETY: the caller owes NULL or a pointer that may be written.
    match unsafe { place.as_mut() } {
        Some(place) => {
            *place = null_mut();
            Ok(place)
        }
        None => Err(usage(name, format!("{name} is NULL: there is nowhere to put the outcome"))),
    }
}

/// Where an outcome is put, if the caller wants it.
pub(crate) fn out_optional<'a, T>(place: *mut *mut T) -> Option<&'a mut *mut T> {
    // SAFETY: as in `out`.
    let place = unsafe { place.as_mut() }?;
    *place = null_mut();
    Some(place)
}

/// Puts a plain value where the caller said.
pub(crate) fn put<T>(place: *mut T, value: T, name: &str) -> Result<()> {
    if place.is_null() {
        return Err(usage(name, format!("{name} is NULL: there is nowhere to put the outcome")));
    }
    // SAFETY: not NULL; the caller owes a pointer that may be written.
    unsafe { place.write(value) };
    Ok(())
}

/// The same where the caller may not care.
pub(crate) fn put_optional<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: as in `put`.
        unsafe { place.write(value) };
    }
}

/// A time-out in milliseconds; `None`: for ever.
pub(crate) fn timeout(ms: i64, default: Option<Duration>) -> Result<Option<Duration>> {
    match ms {
        LEVADA_TIMEOUT_DEFAULT => Ok(default),
        LEVADA_TIMEOUT_INFINITE => Ok(None),
        ms => match u64::try_from(ms) {
            Ok(ms) => Ok(Some(Duration::from_millis(ms).min(FOR_EVER))),
            Err(_) => Err(usage("timeout_ms", format!("{ms} ms is no time-out"))),
        },
    }
}

/// The time-out of a close.
pub(crate) fn close_timeout(ms: i64) -> Result<Duration> {
    Ok(timeout(ms, Some(CLOSE_TIMEOUT))?.unwrap_or(FOR_EVER))
}

/// Runs the body of a function that can fail: 0, or the number of the error, which is put where the caller said.
pub(crate) fn enter(err: *mut *mut Error, body: impl FnOnce() -> Result<()>) -> i32 {
    let place = out_optional(err);
    match guard(body) {
        Ok(()) => 0,
        Err(error) => {
            let number = i32::from(error.number());
            if let Some(place) = place {
                *place = make::<Error>(error.into());
            }
            number
        }
    }
}

/// Runs the body of a function that cannot fail but for misuse, which gives `otherwise`.
pub(crate) fn ask<T>(otherwise: T, body: impl FnOnce() -> std::result::Result<T, CoreError>) -> T {
    guard(body).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Pair {
        struct_size: u32,
        first: u32,
        second: u64,
    }

    // SAFETY: numbers only.
    unsafe impl Sized32 for Pair {
        const NAME: &'static str = "pair";
        const FIRST_SIZE: usize = 8;
    }

    #[test]
    fn an_older_program_gives_and_gets_what_it_knows() {
        let pair = Pair { struct_size: 8, first: 1, second: 99 };
        let known = read(&raw const pair).unwrap();
        assert_eq!((known.first, known.second), (1, 0));
        let mut place = Pair { struct_size: 8, first: 0, second: 77 };
        write(&raw mut place, &Pair { struct_size: 16, first: 5, second: 6 }).unwrap();
        assert_eq!((place.struct_size, place.first, place.second), (8, 5, 77));
    }

    #[test]
    fn a_newer_program_gets_zeros_for_what_is_unknown() {
        #[repr(C)]
        struct Newer {
            pair: Pair,
            third: u64,
        }
        let mut newer = Newer { pair: Pair { struct_size: 24, first: 0, second: 0 }, third: 1 };
        write((&raw mut newer).cast::<Pair>(), &Pair { struct_size: 16, first: 5, second: 6 }).unwrap();
        assert_eq!((newer.pair.second, newer.third), (6, 0));
    }

    #[test]
    fn a_struct_without_its_size_is_refused() {
        let pair = Pair { struct_size: 0, first: 1, second: 2 };
        assert_eq!(read(&raw const pair).err().unwrap().detail("argument"), Some("struct_size"));
        assert!(read::<Pair>(std::ptr::null()).is_err());
    }

    #[test]
    fn time_outs_are_milliseconds_or_a_name() {
        let ten = Some(Duration::from_secs(10));
        assert_eq!(timeout(LEVADA_TIMEOUT_DEFAULT, ten).unwrap(), ten);
        assert_eq!(timeout(LEVADA_TIMEOUT_INFINITE, ten).unwrap(), None);
        assert_eq!(timeout(0, ten).unwrap(), Some(Duration::ZERO));
        assert!(timeout(-3, ten).is_err());
    }
}
