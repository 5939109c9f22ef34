//! Wire to domain and back: the only place that knows both.

mod feed;
mod issuing;

use mayfly_attest::envelope::Envelope;
use mayfly_broker::ShownLease;
use mayfly_domain::{
    Dimension, EndReason, Gate, Intent, Invalid, KeyAlg, LeaseState, PublicKey, Reason, Refusal, Subject,
    TaskReason, TrustDomain, Ttl, UnixMillis, defaults,
};
use mayfly_lease::job::ExposureCount;
use mayfly_lease::{Cursor, Job, JobTarget, LeaseRecord, TaskRecord, TaskState};
use mayfly_mint::TokenKeyInfo;
use mayfly_proto::v1;

pub use feed::{Said, canaries, said, start, told, used};
pub use issuing::{certificate, evidence, issued, mint, renew};

/// Reads an envelope; every part is bounded before anything is verified.
pub fn envelope(wire: v1::Envelope) -> Result<Envelope, Refusal> {
    let malformed = |what: &str| Refusal::new(Reason::EnvelopeInvalid, what).fact("problem", what);
    if wire.payload.len() > defaults::PAYLOAD_OCTETS_MAX {
        return Err(Refusal::new(Reason::TooLarge, "payload"));
    }
    let key = wire.key.ok_or_else(|| malformed("no key"))?;
    let alg = match key.algorithm() {
        v1::KeyAlgorithm::P256 => KeyAlg::P256,
        v1::KeyAlgorithm::Ed25519 => KeyAlg::Ed25519,
        v1::KeyAlgorithm::Unspecified => return Err(malformed("unknown key algorithm")),
    };
    let key =
        PublicKey::new(alg, &key.key).map_err(|_| malformed("the key is not of its algorithm's form"))?;
    Ok(Envelope { payload: wire.payload, key, nonce: wire.nonce, signature: wire.signature })
}

/// Decodes the payload of an opened envelope.
pub fn payload<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, Refusal> {
    M::decode(bytes)
        .map_err(|_| Refusal::new(Reason::EnvelopeInvalid, "the payload is not the request of this call"))
}

/// An intent; empty is none.
pub(crate) fn intent(text: &str) -> Result<Option<Intent>, Invalid> {
    (!text.is_empty()).then(|| Intent::parse(text)).transpose()
}

/// Words for people; empty is none.
pub(crate) fn reason(text: &str) -> Result<Option<TaskReason>, Invalid> {
    (!text.is_empty()).then(|| TaskReason::parse(text)).transpose()
}

/// A length; zero is none.
pub(crate) fn ttl(secs: u32) -> Result<Option<Ttl>, Invalid> {
    (secs != 0).then(|| Ttl::from_secs(i64::from(secs))).transpose()
}

/// A subject as an operator names it.
pub fn subject(wire: &v1::Subject, trust_domain: &TrustDomain) -> Result<Subject, Refusal> {
    let dimension = match wire.dimension() {
        v1::Dimension::Workload => Dimension::Workload,
        v1::Dimension::Owner => Dimension::Owner,
        v1::Dimension::Task => Dimension::Task,
        v1::Dimension::Profile => Dimension::Profile,
        v1::Dimension::Integration => Dimension::Integration,
        v1::Dimension::Everything => return Ok(Subject::Everything(trust_domain.clone())),
        v1::Dimension::Unspecified => return Err(Invalid::new("dimension", "", "must be named").into()),
    };
    // A workload may be named by its path alone.
    if dimension == Dimension::Workload && wire.value.starts_with('/') {
        return Ok(Subject::Workload(mayfly_domain::SpiffeId::new(trust_domain, &wire.value)?));
    }
    Ok(Subject::parse(dimension, &wire.value)?)
}

pub(crate) fn wire_subject(subject: &Subject) -> v1::Subject {
    let dimension = match subject.dimension() {
        Dimension::Workload => v1::Dimension::Workload,
        Dimension::Owner => v1::Dimension::Owner,
        Dimension::Task => v1::Dimension::Task,
        Dimension::Profile => v1::Dimension::Profile,
        Dimension::Integration => v1::Dimension::Integration,
        Dimension::Everything => v1::Dimension::Everything,
        Dimension::Evidence => v1::Dimension::Unspecified,
    };
    v1::Subject { dimension: dimension.into(), value: subject.value().into_owned() }
}

pub(crate) fn lease(record: &LeaseRecord) -> v1::Lease {
    let body = &record.body;
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string).unwrap_or_default();
    v1::Lease {
        id: record.id.to_string(),
        kind: body.kind.as_str().to_owned(),
        state: match record.state {
            LeaseState::Reserved => "reserved",
            LeaseState::Active => "active",
            LeaseState::Ended(reason) => EndReason::as_str(reason),
        }
        .to_owned(),
        workload: body.workload.to_string(),
        owners: body.owners.iter().map(ToString::to_string).collect(),
        task: text(body.task.as_ref().map(|v| v as _)),
        intent: text(body.intent.as_ref().map(|v| v as _)),
        profile: text(body.profile.as_ref().map(|v| v as _)),
        integration: text(body.integration.as_ref().map(|v| v as _)),
        audience: text(body.audience.as_ref().map(|v| v as _)),
        scopes: body.scopes.iter().map(ToString::to_string).collect(),
        key: body.key.to_string(),
        binding: body.binding.as_str().to_owned(),
        issued_ms: record.issued.0,
        expires_ms: record.expires.0,
        renewable_until_ms: record.renewable_until.0,
        renewals: record.counter,
        rule: text(body.rule.as_ref().map(|v| v as _)),
        revocation: text(record.revocation.as_ref().map(|v| v as _)),
        names: body.x509.iter().flat_map(|x| x.names.iter().map(ToString::to_string)).collect(),
        ancestors: record.observation.ancestors().iter().map(ToString::to_string).collect(),
        signer: record.signer.to_string(),
    }
}

pub(crate) fn shown(lease_shown: &ShownLease) -> v1::Lease {
    lease(&lease_shown.record)
}

pub(crate) fn task(record: &TaskRecord) -> v1::Task {
    v1::Task {
        id: record.body.id.to_string(),
        workload: record.body.workload.to_string(),
        state: match record.state {
            TaskState::Open => "open",
            TaskState::Ended => "ended",
        }
        .to_owned(),
        started_ms: record.started.0,
        window_ends_ms: record.window_ends.0,
        intent: record.body.intent.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: record.body.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        shared: record.body.shared,
    }
}

pub(crate) fn block(subject: &Subject, gate: &Gate) -> v1::Block {
    let words = gate.block.as_ref();
    v1::Block {
        subject: Some(wire_subject(subject)),
        reason: words.map(|b| b.reason.to_string()).unwrap_or_default(),
        author: words.map(|b| b.author.clone()).unwrap_or_default(),
        since_ms: words.map_or(0, |b| b.since.0),
        until_ms: words.and_then(|b| b.until).map_or(0, |t| t.0),
        version: gate.block_version,
    }
}

pub(crate) fn exposure(count: &ExposureCount, counted: bool) -> v1::Exposure {
    v1::Exposure {
        counted,
        online: count.online,
        feed: count.feed,
        offline: count.offline,
        last_ends_ms: count.last_ends.0,
    }
}

pub(crate) fn revocation(job: &Job, undo_pending: u64) -> v1::Revocation {
    let (subject, lease) = match &job.target {
        JobTarget::Lease(id) => (None, id.to_string()),
        JobTarget::Subject(subject, _) => (Some(wire_subject(subject)), String::new()),
    };
    v1::Revocation {
        id: job.id.to_string(),
        subject,
        lease,
        reason: job.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        author: job.author.clone(),
        ticket: job.ticket.clone().unwrap_or_default(),
        since_ms: job.since.0,
        done: job.done,
        ended: job.ended,
        undone: job.with_side_effects.saturating_sub(undo_pending),
        undo_pending: undo_pending.min(job.with_side_effects),
        exposure: Some(exposure(&job.exposure, job.done)),
    }
}

pub(crate) fn key(info: &TokenKeyInfo) -> v1::Key {
    v1::Key {
        kid: info.kid.clone(),
        algorithm: algorithm(info.alg).to_owned(),
        state: info.state.as_str().to_owned(),
        since_ms: info.since.0,
        module: info.module,
        ..v1::Key::default()
    }
}

/// A key's algorithm by its JOSE name.
pub(crate) const fn algorithm(alg: KeyAlg) -> &'static str {
    mayfly_credential::keys::jose_name(alg)
}

/// A place in a list as an opaque text: 25 octets in hexadecimal.
pub fn page_token(cursor: Cursor) -> String {
    use std::fmt::Write as _;
    let mut out = format!("{:02x}{:016x}", cursor.partition, cursor.expires.0);
    for octet in cursor.id.as_bytes() {
        let _ = write!(out, "{octet:02x}");
    }
    out
}

/// Reads a page token.
pub fn cursor(text: &str) -> Result<Option<Cursor>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let no = || Refusal::from(Invalid::new("page token", text, "is not one of this list"));
    if text.len() != 50 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(no());
    }
    let part = |from: usize, to: usize| text.get(from..to).ok_or_else(no);
    let id = u128::from_str_radix(part(18, 50)?, 16).map_err(|_| no())?;
    Ok(Some(Cursor {
        partition: u8::from_str_radix(part(0, 2)?, 16).map_err(|_| no())?,
        expires: UnixMillis(u64::from_str_radix(part(2, 18)?, 16).map_err(|_| no())?),
        id: mayfly_domain::LeaseId::from_bytes(id.to_be_bytes()),
    }))
}

/// How an answer says what became of its audit record.
pub(crate) fn audit(stored: mayfly_audit::Stored) -> String {
    stored.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_come_back_and_foreign_ones_are_refused() {
        let place = Cursor {
            partition: 7,
            expires: UnixMillis(1_700_000_000_000),
            id: mayfly_domain::LeaseId::from_bytes([0xab; 16]),
        };
        assert_eq!(cursor(&page_token(place)).unwrap(), Some(place));
        assert_eq!(cursor("").unwrap(), None);
        for bad in ["x", "zz".repeat(25).as_str(), "00".repeat(26).as_str()] {
            assert!(cursor(bad).is_err());
        }
    }
}
