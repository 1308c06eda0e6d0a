//! What `cargo xtask codegen` writes from `api.toml`: change that, not this.

pub(crate) mod enums;
pub(crate) mod options;
