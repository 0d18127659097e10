//! Fuzzes a message of one of Node's Redis adapters.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::bus_nodejs(input));
