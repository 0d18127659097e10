//! Fuzzes the payload of a Flask session cookie.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::flask_payload(input));
