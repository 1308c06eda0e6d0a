//! The locks of `core`; its loom test puts loom's in their place.

pub(super) use std::sync::{Mutex, MutexGuard};
