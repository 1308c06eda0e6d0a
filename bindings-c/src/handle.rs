//! What the opaque pointers of the C API point to: a shell with a magic word, and the thing in it.
//!
//! A pointer that is NULL, of another type, or already freed is found by the word and refused. So that reading the word of
//! something freed is still reading memory of ours, the last few thousand shells are kept, empty, before the allocator gets
//! them back. Live shells are referenced by nobody but their owner: a leak checker sees those that are forgotten.

use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use levada_core::{Error, ErrorCode, Result};

/// A type of the C API that callers know by pointer only.
pub(crate) trait Opaque {
    /// What is in the shell.
    type Content;
    /// The word of live ones.
    const MAGIC: u32;
    /// Its name in C.
    const NAME: &'static str;
}

/// The word of what was freed.
const DEAD: u32 = 0xDEAD_1EAD;
/// Added to the word of what lies inside something else and is freed with it.
const INNER: u32 = 1;

#[repr(C)]
struct Head {
    magic: AtomicU32,
    discard: unsafe fn(*mut Head),
}

/// The shell. What lies inside a tree uses it directly.
#[repr(C)]
pub(crate) struct Shell<C> {
    head: Head,
    content: ManuallyDrop<C>,
}

unsafe fn discard<C>(head: *mut Head) {
    // SAFETY: `head` begins a `Shell<C>` that `make` boxed and whose content is dropped; called once, by `retire`.
    drop(unsafe { Box::from_raw(head.cast::<Shell<C>>()) });
}

impl<C> Shell<C> {
    /// A shell that its owner frees with itself.
    pub(crate) fn inner<O: Opaque<Content = C>>(content: C) -> Shell<C> {
        Shell::with_magic(O::MAGIC + INNER, content)
    }

    fn with_magic(magic: u32, content: C) -> Shell<C> {
        Shell {
            head: Head { magic: AtomicU32::new(magic), discard: discard::<C> },
            content: ManuallyDrop::new(content),
        }
    }

    /// It, as callers see it.
    pub(crate) fn pointer<O: Opaque<Content = C>>(&self) -> *const O {
        std::ptr::from_ref(self).cast()
    }
}

impl<C> std::ops::Deref for Shell<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.content
    }
}

impl<C> Drop for Shell<C> {
    fn drop(&mut self) {
        if self.head.magic.swap(DEAD, Ordering::AcqRel) != DEAD {
            // SAFETY: the word was not DEAD, so the content is still there, and nobody sees it live again.
            unsafe { ManuallyDrop::drop(&mut self.content) };
        }
    }
}

/// Hands a thing to the caller.
pub(crate) fn make<O: Opaque>(content: O::Content) -> *mut O {
    Box::into_raw(Box::new(Shell::with_magic(O::MAGIC, content))).cast()
}

/// The thing a pointer of the caller means.
///
/// # Errors
/// A usage error if it is NULL, something else, or freed.
pub(crate) fn get<'a, O: Opaque>(pointer: *const O) -> Result<&'a O::Content> {
    let shell = pointer.cast::<Shell<O::Content>>();
    // SAFETY: the caller owes a pointer that this library gave, live or lately freed: either way a head is there to read.
    let Some(head) = (unsafe { shell.cast::<Head>().as_ref() }) else {
        return Err(usage(O::NAME, format!("{} is NULL", O::NAME)));
    };
    let magic = head.magic.load(Ordering::Acquire);
    if magic != O::MAGIC && magic != O::MAGIC + INNER {
        return Err(usage(O::NAME, format!("this is no live {}", O::NAME)));
    }
    // SAFETY: the word says that it is a live shell of this type; the caller owes not to free it during the call.
    Ok(unsafe { &(*shell).content })
}

/// The same for pointers that may be NULL.
///
/// # Errors
/// A usage error if it is something else, or freed.
pub(crate) fn get_optional<'a, O: Opaque>(pointer: *const O) -> Result<Option<&'a O::Content>> {
    if pointer.is_null() { Ok(None) } else { get(pointer).map(Some) }
}

/// Ends a thing that was handed out; NULL is nothing. Anything else that is not live is a defect of the program as `free` of
/// the same would be, and ends it: there is no caller to tell.
#[expect(clippy::print_stderr, reason = "the last words of a process")]
pub(crate) fn release<O: Opaque>(pointer: *mut O) {
    let shell = pointer.cast::<Shell<O::Content>>();
    // SAFETY: as in `get`.
    let Some(head) = (unsafe { shell.cast::<Head>().as_ref() }) else { return };
    if head.magic.compare_exchange(O::MAGIC, DEAD, Ordering::AcqRel, Ordering::Acquire).is_err() {
        eprintln!("levada: freeing something that is no live {}: freed twice, borrowed, or of another type", O::NAME);
        std::process::abort();
    }
    // SAFETY: the exchange succeeded once, so the content is there and this is its only drop.
    unsafe { ManuallyDrop::drop(&mut (*shell).content) };
    retire(shell.cast());
}

/// Shells that are kept after they were freed.
const KEPT: usize = 4096;
static RETIRED: [AtomicPtr<Head>; KEPT] = [const { AtomicPtr::new(null_mut()) }; KEPT];
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn retire(head: *mut Head) {
    let place = NEXT.fetch_add(1, Ordering::Relaxed) % KEPT;
    let oldest = RETIRED[place].swap(head, Ordering::AcqRel);
    if !oldest.is_null() {
        // SAFETY: it was put there by a `retire`, taken out once by this swap, and its content is dropped.
        unsafe { ((*oldest).discard)(oldest) };
    }
}

/// An error of how this library is called.
pub(crate) fn usage(argument: &str, text: impl Into<String>) -> Error {
    Error::new(ErrorCode::ClientUsage, text).with_detail("argument", argument)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Thing;
    impl Opaque for Thing {
        type Content = Arc<()>;
        const MAGIC: u32 = 0x4C56_5400;
        const NAME: &'static str = "levada_thing_t";
    }

    struct Other;
    impl Opaque for Other {
        type Content = u64;
        const MAGIC: u32 = 0x4C56_4F00;
        const NAME: &'static str = "levada_other_t";
    }

    #[test]
    fn what_was_freed_is_dropped_once_and_refused_afterwards() {
        let content = Arc::new(());
        let thing = make::<Thing>(Arc::clone(&content));
        assert!(get(thing).is_ok());
        release(thing);
        assert_eq!(Arc::strong_count(&content), 1);
        let error = get(thing).unwrap_err();
        assert_eq!(error.detail("argument"), Some("levada_thing_t"));
        for _ in 0..KEPT {
            release(make::<Other>(1));
        }
        assert_eq!(Arc::strong_count(&content), 1, "the shell went without its content");
    }

    #[test]
    fn null_and_another_type_are_refused() {
        let other = make::<Other>(7);
        assert!(get::<Thing>(other.cast()).is_err());
        assert!(get::<Thing>(std::ptr::null()).is_err());
        assert!(get_optional::<Thing>(std::ptr::null()).unwrap().is_none());
        assert_eq!(*get(other).unwrap(), 7);
        release(other);
        release::<Other>(null_mut());
    }
}
