//! What `cargo xtask codegen` writes from `sdk-rust/api.toml`: control calls by name, and records as values.

pub(crate) mod calls;
pub(crate) mod records;
