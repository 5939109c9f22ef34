//! Keys in a real PKCS #11 module: SoftHSM 2 of the distribution.
//!
//! SoftHSM finds its tokens by a variable of the environment, once for a process: each test runs in a child process
//! of its own, which is this same program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_domain::time::{Clock as _, SystemClock};
use mayfly_domain::{KeyAlg, Reason, Secret, TrustDomain, Ttl};
use mayfly_mint::keyring::pem;
use mayfly_mint::keyset::PURPOSE;
use mayfly_mint::{
    Custody, KeyModule as _, KeyRing, KeySet, KeyUse, Live, ModuleKey, ModuleSettings, Pkcs11Module, Role,
    Seal, ServerName, x509,
};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
const CHILD: &str = "MAYFLY_TEST_SOFTHSM";
const PIN: &str = "48151623";

/// A token directory of SoftHSM's.
struct SoftHsm {
    dir: PathBuf,
}

impl SoftHsm {
    fn settings(&self) -> ModuleSettings {
        ModuleSettings { module: LIBRARY.into(), token: "mayfly".into(), pin_file: self.dir.join("pin") }
    }

    fn pin(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.dir.join("pin");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn custody(&self) -> Custody {
        Custody::with_module(Arc::new(Pkcs11Module::new(self.settings())), KeyUse::ALL)
    }

    /// Every octet that SoftHSM keeps on the disk.
    fn files(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut dirs = vec![self.dir.join("tokens")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { all.push(std::fs::read(path).unwrap()) }
            }
        }
        all
    }
}

/// Runs `body` in a child process with a fresh token.
fn with_token(name: &str, body: impl FnOnce(&SoftHsm)) {
    if let Ok(dir) = std::env::var(CHILD) {
        return body(&SoftHsm { dir: dir.into() });
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("tokens")).unwrap();
    let tokens = at("tokens").display().to_string();
    std::fs::write(at("softhsm2.conf"), format!("directories.tokendir = {tokens}\nlog.level = ERROR\n"))
        .unwrap();
    SoftHsm { dir: dir.path().to_owned() }.pin(&format!("{PIN}\n"));
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", at("softhsm2.conf"))
        .args(["--init-token", "--free", "--label", "mayfly", "--so-pin", "87654321", "--pin", PIN])
        .output()
        .expect("softhsm2-util is not installed: .ci/install says what tests need");
    assert!(made.status.success(), "{made:?}");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("SOFTHSM2_CONF", at("softhsm2.conf"))
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

fn domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

fn openssl_verify(dir: &Path, anchor: &str, leaf: &str) {
    let (ca, certificate) = (dir.join("anchor.pem"), dir.join("leaf.pem"));
    std::fs::write(&ca, anchor).unwrap();
    std::fs::write(&certificate, leaf).unwrap();
    let out = Command::new("openssl").arg("verify").arg("-CAfile").args([ca, certificate]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

/// Whether the private key of this P-256 public key stands anywhere in `octets`: each place where 32 octets fit is
/// tried as the key itself, so that no container or padding hides it.
fn holds_private_key(octets: &[u8], key: &ModuleKey) -> bool {
    let rng = ring::rand::SystemRandom::new();
    octets.windows(32).any(|scalar| {
        EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar,
            key.public.as_bytes(),
            &rng,
        )
        .is_ok()
    })
}

/// A text, and whatever its runs of base64 or hexadecimal digits stand for.
fn decoded(text: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![text.to_vec()];
    for run in text.split(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))) {
        if run.len() >= 40 {
            all.extend(STANDARD.decode(run).ok());
            let digits: Option<Vec<u8>> = run
                .chunks_exact(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
                .collect();
            all.extend(digits);
        }
    }
    all
}

#[test]
fn the_issuing_keys_are_in_the_module_and_nowhere_else() {
    with_token("the_issuing_keys_are_in_the_module_and_nowhere_else", |hsm| {
        let (custody, now) = (hsm.custody(), SystemClock.now());
        let set = KeySet::init(&domain(), &custody, now).unwrap();
        assert!(set.authorities().all(|a| a.module) && set.token_keys().all(|k| k.module));
        let set = set.prepare(Some(KeyAlg::Ed25519), &custody, now).unwrap().activate(now).unwrap();
        let seal = Seal::from_env_value(&Secret::new("ab".repeat(32))).unwrap();
        let sealed = set.seal(&seal).unwrap();
        let opened = KeySet::open(&seal, &sealed).unwrap();
        assert!(opened.authorities().eq(set.authorities()));
        // Without the module the set is read, and nothing is signed.
        assert!(KeyRing::new(&opened, &Custody::sealed()).unwrap_err().to_string().contains("[keys.pkcs11]"));

        // A new process of the broker: other sessions, the same keys.
        let ring = KeyRing::new(&opened, &hsm.custody()).unwrap();
        assert_eq!(ring.signer().alg(), KeyAlg::Ed25519);
        let signature = ring.signer().sign(b"message").unwrap();
        assert!(ring.signer().public_key().verifies(b"message", &signature));
        let names = [ServerName::parse("127.0.0.1")];
        let broker = x509::broker_identity(&ring, "b-1", &names, Ttl::parse("1h").unwrap(), now).unwrap();
        openssl_verify(&hsm.dir, &pem(&ring.anchors(Role::System)[0]), &pem(&broker.chain[0]));
        let request = opened.csr(Role::Workload, &hsm.custody()).unwrap().1;
        assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));

        let (_, document) = seal.open(PURPOSE, &sealed).unwrap();
        for authority in [ring.workload_authority(), ring.system_authority()] {
            use rcgen::PublicKeyData as _;
            let public = mayfly_domain::PublicKey::new(KeyAlg::P256, authority.issuer().key().der_bytes());
            let key = ModuleKey { id: [0; 16], public: public.unwrap() };
            for octets in decoded(document.expose()).iter().chain([&sealed]).chain(&hsm.files()) {
                assert!(!holds_private_key(octets, &key));
            }
        }
        // The search finds a key where there is one.
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &ring::rand::SystemRandom::new())
                .unwrap();
        let planted = mayfly_mint::MemorySigner::from_pkcs8(
            KeyAlg::P256,
            &mayfly_domain::SecretBytes::new(pkcs8.as_ref().to_vec()),
        )
        .unwrap();
        let public = mayfly_mint::Signer::public_key(&planted).clone();
        let text = format!(r#"{{"key":"{}"}}"#, STANDARD.encode(pkcs8.as_ref()));
        let key = ModuleKey { id: [0; 16], public };
        assert!(decoded(text.as_bytes()).iter().any(|octets| holds_private_key(octets, &key)));
    });
}

#[test]
fn rotations_make_their_keys_in_the_module() {
    with_token("rotations_make_their_keys_in_the_module", |hsm| {
        let (custody, now) = (hsm.custody(), SystemClock.now());
        let set = KeySet::init(&domain(), &custody, now).unwrap();
        let active = set.authorities().find(|a| a.role == Role::Workload).unwrap().id;
        let set = set.revoke_authority(&active, &custody, now).unwrap();
        let set = set.prepare(None, &custody, now).unwrap().activate(now).unwrap();
        let set = set.retire(now, Live::Refuse).unwrap();
        assert!(set.authorities().all(|a| a.module) && set.token_keys().all(|k| k.module));
        let ring = KeyRing::new(&set, &custody).unwrap();
        ring.signer().sign(b"message").unwrap();
        // Only what is configured for the module is made there.
        let some = Custody::with_module(Arc::new(Pkcs11Module::new(hsm.settings())), [KeyUse::WorkloadCa]);
        let set = KeySet::init(&domain(), &some, now).unwrap();
        let inside = |role| set.authorities().find(|a| a.role == role).unwrap().module;
        assert!(inside(Role::Workload) && !inside(Role::System) && set.token_keys().all(|k| !k.module));
    });
}

#[test]
fn a_module_that_goes_away_refuses_and_comes_back_by_itself() {
    with_token("a_module_that_goes_away_refuses_and_comes_back_by_itself", |hsm| {
        let module = Pkcs11Module::new(hsm.settings());
        let key = module.generate(KeyAlg::P256, "test").unwrap();
        let signer = module.signer(&key);
        signer.sign(b"before").unwrap();
        let (here, away) = (hsm.dir.join("tokens"), hsm.dir.join("away"));
        for round in 0..3 {
            std::fs::rename(&here, &away).unwrap();
            std::fs::create_dir(&here).unwrap();
            let refusal = signer.sign(b"meanwhile").unwrap_err();
            assert_eq!(refusal.reason, Reason::SignerUnavailable, "{round}");
            assert!(refusal.retry_after.is_some() && !refusal.to_string().contains(PIN));
            assert_eq!(module.generate(KeyAlg::P256, "test").unwrap_err().reason, Reason::SignerUnavailable);
            std::fs::remove_dir_all(&here).unwrap();
            std::fs::rename(&away, &here).unwrap();
            let patience = mayfly_domain::Deadline::after(std::time::Duration::from_secs(20));
            let signature = loop {
                match signer.sign(b"after") {
                    Ok(signature) => break signature,
                    Err(e) => assert!(!patience.has_passed(), "{round}: {e}"),
                }
                std::thread::yield_now();
            };
            assert!(key.public.verifies(b"after", &signature));
        }
        // Many at once, each with a session of its own; nobody has loaded the module yet.
        let fresh = Pkcs11Module::new(hsm.settings()).signer(&key);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| drop(fresh.sign(b"at once").unwrap())));
            }
        });
    });
}

#[test]
fn a_wrong_pin_is_tried_once_and_a_new_one_is_taken() {
    with_token("a_wrong_pin_is_tried_once_and_a_new_one_is_taken", |hsm| {
        hsm.pin("00000000");
        let module = Pkcs11Module::new(hsm.settings());
        // Far more often than a token bears wrong PINs.
        for _ in 0..30 {
            let refusal = module.generate(KeyAlg::P256, "test").unwrap_err();
            assert_eq!(refusal.reason, Reason::SignerUnavailable);
            assert!(!format!("{refusal} {refusal:?} {module:?}").contains("00000000"));
        }
        hsm.pin(PIN);
        module.generate(KeyAlg::P256, "test").unwrap();
        let other = ModuleSettings { token: "other".into(), ..hsm.settings() };
        let none = Pkcs11Module::new(other).generate(KeyAlg::P256, "test").unwrap_err();
        assert!(none.to_string().contains("no token has the label"), "{none}");
        let nowhere = ModuleSettings { module: "/nonexistent.so".into(), ..hsm.settings() };
        let none = Pkcs11Module::new(nowhere).generate(KeyAlg::P256, "test").unwrap_err();
        assert_eq!(none.reason, Reason::SignerUnavailable);
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(hsm.dir.join("pin"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = Pkcs11Module::new(hsm.settings()).generate(KeyAlg::P256, "test").unwrap_err();
        assert!(open.to_string().contains("0644"), "{open}");
    });
}
