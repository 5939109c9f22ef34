//! Names that nothing knows, and the known ones like them.

use std::collections::BTreeSet;

use mayfly_domain::{Dimension, LeaseState, Reason, Refusal, Subject};
use mayfly_lease::ListQuery;

use crate::broker::Broker;

/// How many leases are looked at for known names.
const SAMPLE: u32 = 1_000;
/// How many names are shown.
const SHOWN: usize = 3;

/// A subject as an operator named it, and whether it counts although nothing knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The subject.
    pub subject: Subject,
    /// Act on it although nothing knows it.
    pub force: bool,
}

impl Broker {
    /// Refuses a subject that nothing knows: neither configuration nor store.
    pub(crate) async fn known(&self, named: &Named) -> Result<(), Refusal> {
        let subject = &named.subject;
        if named.force {
            return Ok(());
        }
        if let Subject::Everything(domain) = subject {
            if *domain == self.settings().trust_domain {
                return Ok(());
            }
            return Err(Refusal::new(Reason::NotFound, "another trust domain")
                .fact("nearest", self.settings().trust_domain.to_string()));
        }
        let configured = self.configured(subject.dimension());
        if configured.contains(&*subject.value())
            || self.leases().store().knows(subject).await.map_err(|e| self.refused(e))?
        {
            return Ok(());
        }
        let mut names = configured;
        self.add_leased(subject.dimension(), &mut names).await?;
        let mut refusal = Refusal::new(Reason::NotFound, format!("nothing knows {subject}"))
            .fact("named", subject.to_string());
        let nearest = nearest(&subject.value(), names);
        if !nearest.is_empty() {
            refusal = refusal.fact("nearest", nearest.join(", "));
        }
        Err(refusal)
    }

    fn configured(&self, dimension: Dimension) -> BTreeSet<String> {
        let running = self.running();
        match dimension {
            Dimension::Profile => running.engine.profiles().map(|p| p.name.to_string()).collect(),
            Dimension::Integration => running.engine.profiles().map(|p| p.integration.to_string()).collect(),
            Dimension::Owner => {
                let rules = self.verifier().rules();
                let owners = rules.rules().iter().flat_map(|r| r.fixed_owners().collect::<Vec<_>>());
                let answerable = running.acceptors.values().map(|a| a.owner.clone());
                owners.chain(answerable).map(|o| o.to_string()).collect()
            }
            Dimension::Workload => {
                let rules = self.verifier().rules();
                rules.rules().iter().filter_map(|r| r.fixed_workload()).map(|w| w.to_string()).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    async fn add_leased(&self, dimension: Dimension, names: &mut BTreeSet<String>) -> Result<(), Refusal> {
        let query = ListQuery { along: None, after: None, limit: SAMPLE };
        let page = self.leases().store().list(&query).await.map_err(|e| self.refused(e))?;
        for record in page.records.iter().filter(|r| r.state == LeaseState::Active) {
            for subject in record.body.subjects(&self.settings().trust_domain) {
                if subject.dimension() == dimension {
                    names.insert(subject.value().into_owned());
                }
            }
        }
        Ok(())
    }
}

/// The names that are most like `name`, the likest first.
fn nearest(name: &str, names: BTreeSet<String>) -> Vec<String> {
    let mut scored: Vec<(f64, String)> = names
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate))
        .filter(|(score, _)| *score > 0.7)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(SHOWN).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_come_first_and_strangers_never() {
        let names = ["team:payments", "team:platform", "user:alice"].map(String::from).into();
        assert_eq!(nearest("team:paymets", names).first().map(String::as_str), Some("team:payments"));
        assert!(nearest("zzz", ["team:payments".to_owned()].into()).is_empty());
    }
}
