//! Completion handles: a text that can end one task and do nothing else, for a job's last step, which has no key.
//!
//! No store knows one: a broker tells its own by a MAC under a key derived from the seal, so that every broker of the
//! trust domain does. Whoever reads a handle can end the task, no more; it must never open, renew or show anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_audit::Kind;
use mayfly_domain::codec::Reader;
use mayfly_domain::{Reason, Refusal, Secret, SecretBytes, SpiffeId, Subject, TaskId, UnixMillis};
use mayfly_lease::{RevokeCommand, RevokeWhat, TaskRecord};
use ring::hmac;

use crate::broker::Broker;
use crate::call::Call;
use crate::tasks::Completed;

/// What every handle starts with, so that scanners for leaked secrets recognise one.
const PREFIX: &str = "mfc_";
/// The label under which the key of the handles' MAC is derived from the seal.
pub(crate) const LABEL: &str = "completion handle";
/// The longest handle that is looked at, in octets.
const OCTETS_MAX: usize = 4 * 1024;
const VERSION: u8 = 1;
const MAC_OCTETS: usize = 32;

/// Which task a handle completes, and whose that is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    until: UnixMillis,
    workload: SpiffeId,
    task: TaskId,
}

/// Makes handles and tells its own.
pub(crate) struct Handles(hmac::Key);

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handles([secret])")
    }
}

impl Handles {
    pub(crate) fn new(key: &SecretBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// `mfc_`, then base64url of version, end (8 octets), workload and task (each with its length in 2 octets) and
    /// HMAC-SHA-256 over all of it.
    fn make(&self, names: &Names) -> Secret<String> {
        let mut octets = vec![VERSION];
        octets.extend_from_slice(&names.until.0.to_be_bytes());
        for part in [names.workload.as_str(), names.task.as_str()] {
            // Both are bounded far below 64 KiB by their types.
            octets.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            octets.extend_from_slice(part.as_bytes());
        }
        let mac = hmac::sign(&self.0, &octets);
        octets.extend_from_slice(mac.as_ref());
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets)))
    }

    fn read(&self, handle: &Secret<String>, now: UnixMillis) -> Result<Names, Refusal> {
        let no = |why: &'static str| Refusal::new(Reason::HandleInvalid, why);
        let text = handle.expose();
        if text.len() > OCTETS_MAX {
            return Err(no("too long"));
        }
        let text = text.strip_prefix(PREFIX).ok_or_else(|| no("it does not start with `mfc_`"))?;
        let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| no("not base64url"))?;
        let length = octets.len().checked_sub(MAC_OCTETS).ok_or_else(|| no("too short"))?;
        let (named, mac) = octets.split_at_checked(length).ok_or_else(|| no("too short"))?;
        hmac::verify(&self.0, named, mac).map_err(|_| no("the MAC is another's"))?;
        let names = names(named).map_err(|_| no("malformed"))?;
        if now >= names.until {
            return Err(no("its task is long over"));
        }
        Ok(names)
    }
}

fn names(octets: &[u8]) -> Result<Names, mayfly_domain::codec::Malformed> {
    let mut r = Reader::new("completion handle", octets);
    if r.u8()? != VERSION {
        return Err(r.malformed("unknown version"));
    }
    let until = UnixMillis(r.u64()?);
    let workload = text(&mut r)?;
    let workload = SpiffeId::parse(&workload).map_err(|_| r.malformed("not a SPIFFE ID"))?;
    let task = text(&mut r)?;
    let task = TaskId::parse(&task).map_err(|_| r.malformed("not a task"))?;
    r.finish()?;
    Ok(Names { until, workload, task })
}

fn text(r: &mut Reader<'_>) -> Result<String, mayfly_domain::codec::Malformed> {
    let length = r.u16()?;
    let octets = r.take(usize::from(length))?;
    String::from_utf8(octets.to_vec()).map_err(|_| r.malformed("not UTF-8"))
}

impl Broker {
    /// A handle that completes `task`, for as long as evidence could name it.
    pub fn completion_handle(&self, task: &TaskRecord) -> Secret<String> {
        self.handles().make(&Names {
            until: task.keep_until,
            workload: task.body.workload.clone(),
            task: task.body.id.clone(),
        })
    }

    /// Ends the task that the handle names and everything minted for it; one that has ended already stays so.
    ///
    /// # Errors
    /// `COMPLETION_HANDLE_INVALID`, or the store's refusal; the task goes on. `RATE_LIMITED` where it has ended already
    /// and is completed again and again. A full audit disk is none.
    pub async fn complete_by_handle(
        &self,
        call: &Call,
        handle: &Secret<String>,
    ) -> Result<Completed, Refusal> {
        let timer = self.timer("task_complete");
        let mut record = self.record(call, Kind::TaskComplete);
        record.detail = "by its completion handle".to_owned();
        let outcome = async {
            self.revoking()?;
            let Names { workload, task, .. } = self.handles().read(handle, self.clock().now())?;
            record.workload = Some(workload.clone());
            record.task = Some(task.clone());
            let command = RevokeCommand {
                id: self.revocation_id(),
                what: RevokeWhat::Task {
                    id: task,
                    by: Some(Subject::Workload(workload.clone())),
                    spend: None,
                    evidence: None,
                    keep_ms: self.longest_task_keep_ms(),
                },
                reason: None,
                author: workload.to_string(),
                ticket: None,
            };
            self.completed(&mut record, &command, Some(self.repeats())).await
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn named() -> Names {
        Names {
            until: NOW.plus(60_000),
            workload: SpiffeId::parse("spiffe://acme.internal/ci/payments/deploy").unwrap(),
            task: TaskId::parse("gh-1-1").unwrap(),
        }
    }

    fn handles(key: u8) -> Handles {
        Handles::new(&SecretBytes::new(vec![key; 32]))
    }

    #[test]
    fn a_handle_is_read_by_whoever_shares_the_seal_until_its_end() {
        let handle = handles(1).make(&named());
        assert!(handle.expose().starts_with("mfc_"));
        assert_eq!(handles(1).read(&handle, NOW).unwrap(), named());
        for (handles, now) in [(handles(2), NOW), (handles(1), named().until)] {
            assert_eq!(handles.read(&handle, now).unwrap_err().reason, Reason::HandleInvalid);
        }
        assert!(!format!("{handle:?} {:?}", handles(1)).contains(&handle.expose()[8..20]));
    }

    #[test]
    fn one_altered_character_is_refused() {
        let handle = handles(1).make(&named());
        for place in 0..handle.expose().len() {
            let mut text: Vec<char> = handle.expose().chars().collect();
            text[place] = if text[place] == 'B' { 'C' } else { 'B' };
            let altered = Secret::new(text.into_iter().collect::<String>());
            assert!(handles(1).read(&altered, NOW).is_err(), "{place}");
        }
        for bad in ["", "mfc_", "mfc_AAAA", &"mfc_".repeat(2_000)] {
            assert!(handles(1).read(&Secret::new(bad.to_owned()), NOW).is_err());
        }
    }
}
