#![no_main]
//! Fuzzes `targets::client_connection`.

#[path = "../targets.rs"]
#[expect(dead_code, reason = "each binary runs one of the targets")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::client_connection(data));
