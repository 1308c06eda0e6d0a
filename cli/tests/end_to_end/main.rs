//! The real command line against the real server, as a person or a script would use them.
//!
//! Each test starts its own server on a free port in a temporary directory. The server's binary is looked for beside this
//! test's own; `cargo xtask test` builds it first, and so does `cargo build -p levada-server`.

mod bench;
mod contract;
mod directory;

mod errors;
mod frozen;
mod input;
mod interrupts;
mod security;
mod vocabulary;
