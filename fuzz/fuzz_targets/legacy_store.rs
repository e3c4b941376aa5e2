//! libFuzzer on `session_fuzz::targets::legacy_store`, which says what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| { session_fuzz::targets::legacy_store(input); });
