use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn scope(task: &str) -> KeyScope {
    KeyScope {
        trust_domain: TrustDomain::parse("acme.internal").unwrap(),
        issuer: "https://issuer.example".into(),
        task: task.into(),
    }
}

fn home() -> (tempfile::TempDir, KeyHome) {
    let dir = tempfile::tempdir().unwrap();
    let home = KeyHome::at(dir.path().join("mayfly")).unwrap();
    (dir, home)
}

#[test]
fn callers_at_the_same_time_get_the_same_key() {
    let (_dir, home) = home();
    let barrier = std::sync::Barrier::new(16);
    let prints: Vec<_> = std::thread::scope(|s| {
        let all: Vec<_> = (0..16)
            .map(|_| {
                s.spawn(|| {
                    barrier.wait();
                    home.key(&scope("t")).unwrap().public().thumbprint()
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(prints.iter().all(|p| *p == prints[0]));
    let files: Vec<_> = std::fs::read_dir(&home.0).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(files.len(), 1, "no temporary file stays");
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&home.0).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn each_scope_has_its_own_key_and_completion_removes_it() {
    let (_dir, home) = home();
    let first = home.key(&scope("t")).unwrap();
    let print = first.public().thumbprint();
    let mut foreign = scope("t");
    foreign.trust_domain = TrustDomain::parse("staging.internal").unwrap();
    for other in [scope("u"), KeyScope { issuer: "https://other".into(), ..scope("t") }, foreign] {
        assert_ne!(home.key(&other).unwrap().public().thumbprint(), print);
    }
    assert_eq!(home.key(&scope("t")).unwrap().public().thumbprint(), print);
    first.forget().unwrap();
    assert_ne!(home.key(&scope("t")).unwrap().public().thumbprint(), print);
}

#[test]
fn parts_of_a_scope_do_not_run_together() {
    let a = KeyScope { issuer: "ab".into(), task: "c".into(), ..scope("") };
    let b = KeyScope { issuer: "a".into(), task: "bc".into(), ..scope("") };
    assert_ne!(a.file_name(), b.file_name());
}

#[test]
fn what_others_could_read_or_replace_is_refused() {
    let (_dir, home) = home();
    home.key(&scope("t")).unwrap();
    let path = home.0.join(scope("t").file_name());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(home.key(&scope("t")).unwrap_err().reason, Reason::ConfigInvalid);
    std::fs::rename(&path, home.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(home.0.join("elsewhere"), &path).unwrap();
    assert_eq!(home.key(&scope("t")).unwrap_err().reason, Reason::ConfigInvalid);
    std::fs::set_permissions(&home.0, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(KeyHome::at(home.0.clone()).unwrap_err().reason, Reason::ConfigInvalid);
}

#[test]
fn a_damaged_file_is_refused_and_shows_none_of_itself() {
    let (_dir, home) = home();
    let path = home.0.join(scope("t").file_name());
    std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = home.key(&scope("t")).unwrap_err();
    assert!(!format!("{refused:?}").contains("c2VjcmV0"));
}

#[test]
fn the_first_directory_that_is_set_is_the_home() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let all = [
        ("MAYFLY_STATE_DIR", at("state"), "state/mayfly"),
        ("RUNNER_TEMP", at("runner"), "runner/mayfly"),
        ("CI_PROJECT_DIR", at("project"), "project.tmp/mayfly"),
        ("XDG_RUNTIME_DIR", at("run"), "run/mayfly"),
        ("XDG_STATE_HOME", at("xdg"), "xdg/mayfly"),
        ("HOME", at("home"), "home/.local/state/mayfly"),
    ];
    for n in 0..all.len() {
        let env = Env::of(all[n..].iter().map(|(k, v, _)| (*k, v.clone())));
        assert_eq!(KeyHome::find(&env).unwrap().0, dir.path().join(all[n].2));
    }
    assert!(KeyHome::find(&Env::of::<&str, &str>([])).is_err());
}

#[test]
fn signatures_verify_and_debug_shows_only_the_thumbprint() {
    let (_dir, home) = home();
    let key = home.key(&scope("t")).unwrap();
    let signature = key.sign(b"message").unwrap();
    assert!(key.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"other", &signature));
    assert_eq!(format!("{key:?}"), format!("WorkloadKey({})", key.public().thumbprint()));
}

#[test]
fn a_generated_keys_public_part_is_that_of_its_private_part() {
    let made = generate().unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(made.pem.expose().as_bytes()).unwrap();
    let pair = rcgen::KeyPair::try_from(der.secret_pkcs8_der()).unwrap();
    assert_eq!(rcgen::PublicKeyData::subject_public_key_info(&pair), made.spki);
    assert!(!format!("{made:?}").contains("PRIVATE"));
}
