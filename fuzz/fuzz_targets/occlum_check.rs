#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    marblerun_fuzz_cases::occlum_check(data);
});
