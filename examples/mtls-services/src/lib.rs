//! What the two services share: the contract, and how a service gets its identity.

use std::error::Error;

use mayfly_client::identity::{Event, Options};
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Contexts, Env, Source, X509Identity};

/// `package example.ledger.v1`.
#[allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("example.ledger.v1");
}

/// A setting of the environment.
///
/// # Errors
/// Where it is missing or malformed, in words that name it.
pub fn setting<T: std::str::FromStr>(name: &str) -> Result<T, Box<dyn Error>>
where
    T::Err: std::fmt::Display,
{
    let text = std::env::var(name).map_err(|e| format!("{name}: {e}"))?;
    text.parse().map_err(|e| format!("{name}={text}: {e}").into())
}

/// This service's identity: the broker and the first evidence are found as `mayfly` finds them, the profile is in
/// `SERVICE_PROFILE`. Whatever happens to the certificate is told on standard error.
///
/// # Errors
/// Why there is none.
pub async fn identity() -> Result<X509Identity, Box<dyn Error>> {
    let env = Env::process();
    let broker = Contexts::load(&Contexts::path(&env)?)?.target(None, &env)?;
    let evidence = Source::discover(None, &env)?;
    let options = Options::new(CertificateAsk::new(setting("SERVICE_PROFILE")?));
    let identity = X509Identity::start(&broker, evidence, options).await.map_err(|e| e.to_string())?;
    let mut events = identity.events();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            match event {
                Event::Issued(svid) => say(&format!("certificate issued until {}", svid.expires.secs())),
                Event::Renewed(svid) => say(&format!("certificate renewed until {}", svid.expires.secs())),
                Event::FellBack(why) => say(&format!("first evidence is shown again: {why}")),
                Event::Failed { failure, last } => say(&format!("no certificate: {failure} (last: {last})")),
                Event::Revoked(why) => say(&format!("revoked: {why}")),
                Event::Expired => say("certificate expired"),
            }
        }
    });
    Ok(identity)
}

/// Tells the person who runs the service.
#[expect(clippy::print_stderr, reason = "a program that speaks to a person")]
pub fn say(line: &str) {
    eprintln!("{line}");
}
