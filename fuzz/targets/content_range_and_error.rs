#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| aztorch::fuzzing::content_range_and_error(data));
