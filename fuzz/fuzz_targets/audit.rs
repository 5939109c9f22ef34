//! The verifier of the audit record, over files that anybody may have written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parts = bytes.split(|b| *b == 0);
    if let Ok(summary) = mayfly_audit::verify(parts) {
        assert!(summary.deferred <= summary.records);
    }
});
