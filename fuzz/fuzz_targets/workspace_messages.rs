#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longsplice::sim::targets::workspace_messages(data));
