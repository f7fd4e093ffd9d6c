#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longsplice::sim::targets::http_head(data));
