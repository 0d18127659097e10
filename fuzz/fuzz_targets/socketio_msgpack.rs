//! Fuzzes one binary message of a client that uses the msgpack parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::socketio_msgpack(input));
