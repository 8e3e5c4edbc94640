#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| aztorch::fuzzing::connection_string(data));
