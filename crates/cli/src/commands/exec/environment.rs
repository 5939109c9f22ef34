//! What of this process's environment the command gets under another name, and what not at all.

use std::ffi::OsString;

use mayfly_client::context::{BROKER_CA_FILE, CA_FILE, CERT_FILES};
use mayfly_client::{Env, Source, evidence};

/// What could be used in the place of whoever started `exec`, beside evidence.
const OTHERS: [&str; 2] = ["MAYFLY_TOKEN", "MAYFLY_COMPLETION_HANDLE"];

/// What is taken out of the command's environment.
pub(crate) fn unset(keep_evidence: bool) -> Vec<String> {
    if keep_evidence {
        return Vec::new();
    }
    evidence::VARIABLES.into_iter().chain(OTHERS).map(str::to_owned).collect()
}

/// What is taken out beside: the variables that name a certificate, where that is the evidence.
pub(super) fn shown_by(source: &Source) -> &'static [&'static str] {
    if matches!(source, Source::Live(_)) { &CERT_FILES } else { &[] }
}

/// Where a certificate's variable takes the name of the file that pins the broker, that file goes on as
/// `MAYFLY_BROKER_CA_FILE`: `mayfly` calls of the command still know the broker.
pub(super) fn broker(set: &[(String, OsString)], env: &Env) -> Option<(String, OsString)> {
    let pin = env.var(BROKER_CA_FILE).or_else(|| env.var(CA_FILE))?;
    set.iter().any(|(name, _)| name == CA_FILE).then(|| (BROKER_CA_FILE.to_owned(), pin.into()))
}

#[cfg(test)]
mod tests {
    use mayfly_domain::SpiffeId;

    use super::*;

    #[test]
    fn a_certificate_that_is_the_evidence_is_not_left_to_the_command() {
        let live = Source::Live(SpiffeId::parse("spiffe://acme.internal/ledger").unwrap());
        assert_eq!(shown_by(&live), ["MAYFLY_CERT_FILE", "MAYFLY_KEY_FILE"]);
        assert!(shown_by(&Source::File("/run/token".into())).is_empty(), "it is an operator's, say");
    }
}
