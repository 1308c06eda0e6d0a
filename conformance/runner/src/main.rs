//! The `levada-conformance` binary.

fn main() {}
