//! libFuzzer entry point of `session_fuzz::targets::export_stream`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| { session_fuzz::targets::export_stream(input); });
