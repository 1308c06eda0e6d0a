#![no_main]
//! Fuzzes `targets::server_connection`.

#[path = "../targets.rs"]
#[expect(dead_code, reason = "each binary runs one of the targets")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::server_connection(data));
