//! The real program with its issuing keys in a PKCS #11 module, SoftHSM 2: made by `mayfly init`, used by the server,
//! gone under way and back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::harness::{Site, load_spec, until};

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "48151623";

/// A deployment whose broker keeps its issuing keys in a fresh token.
async fn site() -> Site {
    let mut site = Site::embedded();
    let (tokens, config, pin) = (site.path("tokens"), site.path("softhsm2.conf"), site.path("pin"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&config, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o400)).unwrap();
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &config)
        .args(["--init-token", "--free", "--label", "mayfly", "--so-pin", "87654321", "--pin", PIN])
        .output()
        .expect("softhsm2-util is not installed: .ci/install says what tests need");
    assert!(made.status.success(), "{made:?}");
    site.environment = vec![("SOFTHSM2_CONF", config)];
    site.configure_also(&format!(
        "[keys.pkcs11]\nmodule = {LIBRARY:?}\ntoken = \"mayfly\"\npin_file = {pin:?}\n"
    ));
    site.serve_ci().await;
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_are_refused_while_the_module_is_away_and_go_on_when_it_is_back() {
    let site = site().await;
    let server = site.spawn("one").await;
    let acceptor = server.acceptor("load-api").await;
    let job = server.job(&site, &load_spec("1", "1")).await;
    let before = job.mint("load", "use:load").await.unwrap();

    let (here, away) = (site.path("tokens"), site.path("away"));
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();
    let refused = job.mint("load", "use:load").await.unwrap_err();
    assert_eq!(refused.code, "SIGNER_UNAVAILABLE");
    acceptor.lease(&before.lease).await.expect("what was minted is checked as ever");

    fs::remove_dir_all(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    let after = until(async || job.mint("load", "use:load").await.ok()).await;
    acceptor.lease(&after.lease).await.unwrap();
    let log = server.log.borrow().clone();
    assert!(log.contains("the PKCS #11 token is back") && !log.contains(PIN));
}
