//! Fuzzes one message of python-socketio's queue: JSON or a pickle.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::bus_python(input));
