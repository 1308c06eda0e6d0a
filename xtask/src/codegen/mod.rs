//! `cargo xtask codegen [--check]`: writes everything that is derived from `protocol-spec/messages.toml`,
//! `protocol-spec/errors.toml` and `sdk-rust/api.toml`.
//!
//! `protocol` and `api` read and check the sources; each of the others turns them into the files of one language or page and
//! knows no other; `files` compares and writes. Everything is ordered by number or name, so the output does not depend on
//! the order of a map. `--check` writes nothing and fails if anything would change.

mod api;
mod c_header;
mod ffi;
mod files;
mod kotlin;
mod names;
mod node;
pub(crate) mod overhead;
mod parity;
mod protocol;
mod python;
mod reference;
mod rust;

pub(crate) use files::run;
pub(crate) use overhead::keep as keep_overhead;
pub(crate) use parity::keep as keep_results;
