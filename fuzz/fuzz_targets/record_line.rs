//! libFuzzer entry point of `session_fuzz::targets::record_line`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| { session_fuzz::targets::record_line(input); });
