//! What concerns the process and no client: version, live handles, the log of the core.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use levada_ffi::logs;
use napi::Env;
use napi::bindgen_prelude::{Function, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use crate::failure;
use crate::queue;
use crate::value::{self, Js};

/// Version of the module, which the package that loads it compares with its own.
#[napi(catch_unwind)]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Live handles of the core in this process.
#[napi(catch_unwind)]
pub fn stats(env: Env) -> napi::Result<Js> {
    failure::guarded(&env, || Ok(value::to_js(levada_ffi::stats())))
}

/// What the core logs, from the moment it is made.
#[napi(js_name = "Logs")]
pub struct NativeLogs {
    reader: RefCell<Option<logs::LogReader>>,
}

impl fmt::Debug for NativeLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeLogs")
    }
}

#[napi]
impl NativeLogs {
    /// Records of `level` and above; `wake` is called on the thread of JavaScript when there are some.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, level: String, wake: Function<'_, (), Unknown<'static>>) -> napi::Result<Self> {
        let wake = Arc::new(queue::wake(&wake)?);
        failure::guarded(&env, || {
            let reader = logs::subscribe(
                &level,
                Box::new(move || {
                    // An environment that is ending takes no calls.
                    let _ = wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
                }),
            )?;
            Ok(NativeLogs { reader: RefCell::new(Some(reader)) })
        })
    }

    /// The records that have arrived, four values each: level, target, message, microseconds since the Unix epoch.
    #[napi(catch_unwind)]
    pub fn drain(&self) -> Vec<Js> {
        let mut reader = self.reader.borrow_mut();
        let records = reader.as_mut().map(|reader| reader.drain()).unwrap_or_default();
        let mut flat = Vec::with_capacity(records.len() * 4);
        for record in records {
            flat.extend([
                Js::Static(record.level),
                Js::Text(record.target),
                Js::Text(record.message),
                Js::I64(record.timestamp_us),
            ]);
        }
        flat
    }

    /// Ends the subscription.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        drop(self.reader.borrow_mut().take());
    }
}
