//! Sealed texts: an altered or foreign one does not open, whatever its header asks for.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_domain::Secret;
use mayfly_mint::Seal;

static SEAL: LazyLock<Seal> = LazyLock::new(|| Seal::from_env_value(&Secret::new("07".repeat(32))).unwrap());
static SEALED: LazyLock<Vec<u8>> =
    LazyLock::new(|| SEAL.seal("keys", 7, &Secret::new(b"content".to_vec())).unwrap());

fuzz_target!(|input: (bool, u8, u8, &[u8])| {
    let (ours, at, flip, bytes) = input;
    if !ours {
        assert!(SEAL.open("keys", bytes).is_err());
        return;
    }
    let mut sealed = SEALED.clone();
    let at = usize::from(at) % sealed.len();
    sealed[at] ^= flip;
    assert_eq!(SEAL.open("keys", &sealed).is_ok(), flip == 0);
    assert!(SEAL.open("copy", &sealed).is_err());
});
