//! Fuzzes WebSocket frames, after one byte that chooses the limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::websocket_messages(input));
