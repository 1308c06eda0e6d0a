//! What `cargo xtask codegen` writes from `api.toml` and `messages.toml`: control calls by name, and records as values. Change
//! those, not this.

pub(crate) mod calls;
mod records;
