//! Fuzzes the body of a long-polling POST.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::engineio_body(input));
