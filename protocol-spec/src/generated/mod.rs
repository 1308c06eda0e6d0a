//! What `cargo xtask codegen` writes from `messages.toml` and `errors.toml`. Only this file is written by hand.

pub(crate) mod enums;
pub(crate) mod errors;
pub(crate) mod frames;
pub mod limits;
pub(crate) mod messages;
pub(crate) mod structs;
