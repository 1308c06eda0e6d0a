//! The queue of one Node environment: every call made there answers on it, and its wake is a weak threadsafe function.
//!
//! The wake holds the process only while the TypeScript layer says so, which counts what is under way. When the environment
//! ends, the queue is closed before the threadsafe function goes: no wake can come after it.

use std::cell::Cell;
use std::sync::Arc;

use levada_ffi::Event;
use napi::bindgen_prelude::{Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status, sys};
use napi_derive::napi;

use crate::failure;
use crate::value::{self, Js};

/// Calls a function of JavaScript without arguments, does not hold the process, may be called from any thread.
pub(crate) type Wake = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true, 0>;

/// Makes a wake of a function.
pub(crate) fn wake(function: &Function<'_, (), Unknown<'static>>) -> napi::Result<Wake> {
    function.build_threadsafe_function::<()>().callee_handled::<false>().weak::<true>().build()
}

/// How many values of an event follow each other in what [`NativeQueue::drain`] gives.
const EVENT_WIDTH: usize = 4;

/// See the module.
#[napi(js_name = "Queue")]
#[derive(Debug)]
pub struct NativeQueue {
    queue: levada_ffi::Queue,
    wake: ThreadsafeHandle,
    held: Cell<bool>,
}

/// The wake, kept to be held and released.
struct ThreadsafeHandle(Arc<Wake>);

impl std::fmt::Debug for ThreadsafeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ThreadsafeHandle")
    }
}

#[napi]
impl NativeQueue {
    /// A queue that calls `wake` on the thread of JavaScript when an event lands on it while it is empty.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, wake: Function<'_, (), Unknown<'static>>) -> napi::Result<Self> {
        let wake = Arc::new(self::wake(&wake)?);
        let caller = Arc::clone(&wake);
        let queue = levada_ffi::Queue::new(move || {
            // An environment that is ending takes no calls; nobody waits there any more.
            let _ = caller.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        env.add_env_cleanup_hook(queue.clone(), |queue| queue.close())?;
        Ok(NativeQueue { queue, wake: ThreadsafeHandle(wake), held: Cell::new(false) })
    }

    /// Whether the queue keeps the process alive.
    #[napi(catch_unwind)]
    pub fn hold(&self, env: Env, hold: bool) {
        if self.held.replace(hold) == hold || self.wake.0.aborted() {
            return;
        }
        let function = self.wake.0.raw();
        // SAFETY: this is the thread of JavaScript, and the function lives as long as `self.wake`.
        let _ = unsafe {
            if hold {
                sys::napi_ref_threadsafe_function(env.raw(), function)
            } else {
                sys::napi_unref_threadsafe_function(env.raw(), function)
            }
        };
    }

    /// The events that have arrived, at most `max`, four values each: `0, token, failure, value` for a call that has ended,
    /// `1, tokens, failure, receipt` for messages acknowledged together, `2, token, undefined, undefined` for readiness.
    #[napi(catch_unwind)]
    pub fn drain(&self, max: u32) -> Vec<Js> {
        let events = self.queue.drain(max as usize);
        let mut flat = Vec::with_capacity(events.len() * EVENT_WIDTH);
        for event in events {
            match event {
                Event::Done { token, outcome } => {
                    let (failure, value) = match outcome {
                        Ok(output) => (Js::Undefined, value::output(output, &self.queue)),
                        Err(error) => (failure::object(&error), Js::Undefined),
                    };
                    flat.extend([Js::Number(0.0), Js::Number(value::number(token)), failure, value]);
                }
                Event::Acked { outcome, tokens, .. } => {
                    let (failure, value) = match outcome {
                        Ok(receipt) => (Js::Undefined, value::batch_receipt(&receipt)),
                        Err(error) => (failure::object(&error), Js::Undefined),
                    };
                    let tokens = Js::Numbers(tokens.into_iter().map(value::number).collect());
                    flat.extend([Js::Number(1.0), tokens, failure, value]);
                }
                Event::Ready { token } => {
                    flat.extend([Js::Number(2.0), Js::Number(value::number(token)), Js::Undefined, Js::Undefined]);
                }
            }
        }
        flat
    }

    /// Connects with options by their names in the core; `token` gets a client.
    #[napi(catch_unwind)]
    pub fn connect(
        &self,
        env: Env,
        options: napi::bindgen_prelude::Object<'_>,
        token: f64,
    ) -> napi::Result<crate::client::NativeOperation> {
        let options = value::named(&options)?;
        failure::guarded(&env, || {
            let to = levada_ffi::To::Queue(self.queue.clone(), value::token(token));
            Ok(levada_ffi::Client::connect(options, "node", to).into())
        })
    }
}
