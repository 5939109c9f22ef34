//! `mayfly init`: a trust domain's keys, made once.

use clap::Args;
use mayfly_client::{Failure, Pin};
use mayfly_domain::{Reason, UnixMillis};
use mayfly_server::compose::open_seal;
use mayfly_server::config::Seal;
use mayfly_server::init::{Initialised, initialise};
use serde::Serialize;

use crate::loaded::{ConfigArgs, anchor_file, detailed};
use crate::output::{Human, View};
use crate::session::{Outcome, Session};

/// Make a trust domain's keys and begin its store, once
///
/// Refused where the store or the state directory was initialised before: nothing is ever overwritten. Other
/// brokers of the same store need no `init`, only the same seal.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly init --config /etc/mayfly/mayfly.toml --generate-seal")]
pub(crate) struct Init {
    #[command(flatten)]
    config: ConfigArgs,
    /// Make the seal's key file too, where it is missing; keep a copy of it elsewhere
    #[arg(long)]
    generate_seal: bool,
}

#[derive(Serialize)]
struct Made {
    trust_domain: String,
    ca_sha256: String,
    ca_pem: String,
    seal_file: String,
}

impl View for Made {
    fn human(&self, _: UnixMillis) -> Human {
        Human::Parts(vec![
            (
                "initialised",
                Human::Fields(vec![
                    ("trust domain", self.trust_domain.clone()),
                    ("ca sha256", self.ca_sha256.clone()),
                    ("seal made", self.seal_file.clone()),
                ]),
            ),
            ("the CA that clients pin", Human::Text(self.ca_pem.clone())),
            (
                "next",
                Human::Text(
                    "start brokers:               mayfly server\n\
                     a certificate for yourself:  mayfly operator issue NAME --out DIR --add-context CONTEXT\n"
                        .to_owned(),
                ),
            ),
        ])
    }
}

impl Init {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let settings = self.config.load()?.settings;
        let mut seal_file = String::new();
        if let (Seal::File(path), true) = (&settings.seal, self.generate_seal)
            && !path.exists()
        {
            mayfly_mint::Seal::generate_file(path)
                .map_err(|e| Failure::of(Reason::ConfigInvalid).fact("problem", e.to_string()))?;
            seal_file = path.display().to_string();
        }
        let seal = open_seal(&settings).map_err(|e| match &settings.seal {
            Seal::File(path) if !path.exists() => detailed(&e)
                .next("add --generate-seal to make it, or put the seal of this store's other brokers there"),
            _ => detailed(&e),
        })?;
        let keys = match initialise(&settings, &seal, &session.clock).await.map_err(|e| detailed(&e))? {
            Initialised::Made(keys) => keys,
            Initialised::Already(generation) => {
                return Err(Failure::of(Reason::ConfigInvalid)
                    .fact("problem", format!("the store is initialised already, in generation {generation}"))
                    .next("run: mayfly server"));
            }
        };
        let root = keys.root_certificate().clone();
        let ca_pem = mayfly_mint::keyring::pem(&root);
        let file = anchor_file(&settings);
        std::fs::write(&file, &ca_pem).map_err(|e| {
            Failure::of(Reason::ConfigInvalid)
                .fact("file", file.display().to_string())
                .fact("problem", e.to_string())
        })?;
        session.printer.show(&Made {
            trust_domain: settings.trust_domain.to_string(),
            ca_sha256: Pin::Anchors(vec![root]).fingerprints().concat(),
            ca_pem,
            seal_file,
        })?;
        Ok(0)
    }
}
