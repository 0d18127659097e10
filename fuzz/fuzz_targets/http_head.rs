//! Fuzzes a request head.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::http_head(input));
