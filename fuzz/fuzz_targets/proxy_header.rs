//! Fuzzes the header of the PROXY protocol, version 1 and 2.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::proxy_header(input));
