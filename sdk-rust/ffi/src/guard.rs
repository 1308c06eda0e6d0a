//! A panic of ours is an error of the caller's language, never the end of its process.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use levada::{Error, ErrorCode, Result};

/// Runs an entry point of a binding; a panic becomes `CLIENT_INTERNAL`.
///
/// # Errors
/// Those of `body`.
pub fn guard<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic leaves behind is behind locks that hold whole values between statements.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned());
    Error::new(ErrorCode::ClientInternal, format!("a defect of the client: {text}")).with_maybe_applied(true)
}

/// The same for a future: it ends with the error.
pub(crate) struct Guarded<F>(pub(crate) Pin<Box<F>>);

impl<T, F: Future<Output = Result<T>>> Future for Guarded<F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let future = self.0.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(panicked(panic.as_ref()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_text() {
        let error = guard::<()>(|| panic!("no {}", 3)).unwrap_err();
        assert!(error.is(ErrorCode::ClientInternal));
        assert!(error.message().contains("no 3"));
        assert!(error.maybe_applied());
    }
}
