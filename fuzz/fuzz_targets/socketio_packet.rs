//! Fuzzes the text of one Socket.IO packet.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::socketio_packet(input));
