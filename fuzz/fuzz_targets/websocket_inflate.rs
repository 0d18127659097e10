//! Fuzzes the payload of a compressed message.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::websocket_inflate(input));
