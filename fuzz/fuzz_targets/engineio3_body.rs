//! Fuzzes the body of a long-polling POST of revision 3, in each form.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shardcast::fuzzing::engineio3_body(input));
