//! The binary layouts: what is written is read again, nothing else is, and the places that scripts know are
//! where they say.

use mayfly_domain::{CredentialKind, Dimension, EndReason, Fence, Gate, LeaseId, LeaseState, UnixMillis};
use mayfly_lease::record::HEAD_LEN;
use mayfly_lease::transition::Binding;
use mayfly_lease::{
    GenerationRecord, Job, JobId, JoinId, JoinRecord, JoinState, LeaseRecord, Mark, TaskRecord, gate,
};
use mayfly_testkit::words;
use proptest::prelude::*;

use crate::bench::{Bench, START, wish};

fn time() -> impl Strategy<Value = UnixMillis> {
    any::<u64>().prop_map(UnixMillis)
}

prop_compose! {
    fn record()(
        state in prop::sample::select(vec![
            LeaseState::Reserved,
            LeaseState::Active,
            LeaseState::Ended(EndReason::Expired),
            LeaseState::Ended(EndReason::Released),
            LeaseState::Ended(EndReason::Completed),
            LeaseState::Ended(EndReason::Revoked),
            LeaseState::Ended(EndReason::Abandoned),
        ]),
        flags in 0_u8..16,
        counter in any::<u32>(),
        times in [time(), time(), time(), time()],
        revocation in prop::option::of(1_u8..),
        child in any::<bool>(),
    ) -> LeaseRecord {
        let mut b = Bench::new();
        let parent = b.minted(&wish(1));
        let wish = wish(2).kind(CredentialKind::Account);
        let minted = b.minted(&if child { wish.child_of(&parent) } else { wish });
        let [issued, expires, renewable_until, confirm_by] = times;
        let revocation = revocation.map(|n| JobId([n; 16]));
        LeaseRecord { state, flags, counter, issued, expires, renewable_until, confirm_by, revocation, ..minted }
    }
}

prop_compose! {
    fn a_gate()(
        fence in 0..=Fence::MAX,
        fence_until in time(),
        block_version in any::<u64>(),
        block in prop::option::of((time(), prop::option::of(1..=u64::MAX))),
    ) -> Gate {
        let block = block.map(|(since, until)| {
            let mut block = words::block(since, None);
            block.until = until.map(UnixMillis);
            block
        });
        Gate { fence: Fence::new(fence).unwrap(), fence_until, block_version, block }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

proptest! {
    #[test]
    fn records_round_trip(record in record()) {
        let bytes = record.encode().unwrap();
        prop_assert_eq!(&LeaseRecord::decode(record.id, &bytes).unwrap(), &record);
        prop_assert_eq!(bytes[3], record.flags);
        prop_assert_eq!(bytes[4..8].to_vec(), record.counter.to_be_bytes().to_vec());
        let times = [record.issued, record.expires, record.renewable_until, record.confirm_by];
        for (n, time) in times.into_iter().enumerate() {
            prop_assert_eq!(u64_at(&bytes, 8 + 8 * n), time.0);
        }
        prop_assert_eq!(&bytes[56..72], record.signer.as_bytes());
        let length = usize::from(u16::from_be_bytes([bytes[72], bytes[73]]));
        prop_assert_eq!(&bytes[HEAD_LEN..HEAD_LEN + length], &record.observation.encode()[..]);
        prop_assert_eq!(&bytes[HEAD_LEN + length..], &record.encode_body().unwrap()[..]);
    }

    #[test]
    fn gates_round_trip(gate in a_gate(), at in 0_usize..6) {
        let subject = words::subject(Dimension::ALL[at], 1);
        let bytes = gate::encode(&subject, &gate).unwrap();
        prop_assert_eq!(gate::decode(&bytes).unwrap(), (Some(subject.clone()), gate.clone()));
        prop_assert_eq!(bytes[1], u8::from(gate.block.is_some()));
        prop_assert_eq!([2, 10, 18].map(|n| u64_at(&bytes, n)), [gate.fence.value(), gate.fence_until.0, gate.block_version]);
        prop_assert_eq!(&bytes[gate::HEAD_LEN..], &gate::encode_tail(&subject, gate.block.as_ref()).unwrap()[..]);
    }

    #[test]
    fn marks_and_bindings_round_trip(until in time(), n in any::<u8>(), fences in prop::collection::vec(0..=Fence::MAX, 0..8)) {
        let mark = Mark { until, revocation: JobId([n; 16]) };
        prop_assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
        let pair = |(n, fence): (usize, u64)| {
            (words::subject(Dimension::Owner, u8::try_from(n).unwrap()).key(), Fence::new(fence).unwrap())
        };
        let pairs = fences.into_iter().enumerate().map(pair).collect();
        let binding = Binding { key: (n != 0).then(|| words::key(n)), superseded: n, bound_at: UnixMillis(5), until, pairs };
        let bytes = binding.encode();
        prop_assert_eq!(u64_at(&bytes, 42), until.0);
        prop_assert_eq!(Binding::decode(&bytes).unwrap(), binding);
    }

    /// Hostile octets are refused or read; nothing panics, and what is read is written the same.
    #[test]
    fn any_octets_are_taken_calmly(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let id = LeaseId::from_bytes([7; 16]);
        let _ = LeaseRecord::decode(id, &bytes);
        let _ = gate::decode(&bytes);
        let _ = TaskRecord::decode(&bytes);
        let _ = Job::decode(&bytes);
        if let Ok(mark) = Mark::decode(&bytes) {
            prop_assert_eq!(mark.encode(), bytes.clone());
        }
        if let Ok(binding) = Binding::decode(&bytes) {
            prop_assert_eq!(binding.encode(), bytes.clone());
        }
        let hash = words::join_token(1);
        if let Ok(join) = JoinRecord::decode(hash, &bytes) {
            prop_assert_eq!(JoinRecord::decode(hash, &join.encode().unwrap()).unwrap(), join);
        }
        let _ = GenerationRecord::decode(&bytes);
    }
}

#[test]
fn nothing_shorter_longer_or_newer_is_read() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1));
    let task = b.view.tasks.values().next().unwrap().clone();
    let job = b.revoke(1, Dimension::Owner, 1).0.job.unwrap();
    let generation = words::generation(7, UnixMillis(9));
    assert_eq!(GenerationRecord::decode(&generation.encode()).unwrap(), generation);
    assert_eq!(TaskRecord::decode(&task.encode().unwrap()).unwrap(), task);
    assert_eq!(Job::decode(&job.encode().unwrap()).unwrap(), job);
    let id = record.id;
    let join = wish(1).join_token(1, START);
    for state in [JoinState::Open, JoinState::Used(id), JoinState::Withdrawn] {
        let join = JoinRecord { state, ..join.clone() };
        let bytes = join.encode().unwrap();
        assert_eq!([2, 10].map(|n| u64_at(&bytes, n)), [join.keep_until().0, join.expires.0]);
        assert_eq!(JoinRecord::decode(join.hash, &bytes).unwrap(), join);
        assert_eq!(join.lease(), (state == JoinState::Used(id)).then_some(id));
    }
    type Read = Box<dyn Fn(&[u8]) -> bool>;
    let layouts: Vec<(Vec<u8>, Read)> = vec![
        (record.encode().unwrap(), Box::new(move |b| LeaseRecord::decode(id, b).is_ok())),
        (task.encode().unwrap(), Box::new(|b| TaskRecord::decode(b).is_ok())),
        (job.encode().unwrap(), Box::new(|b| Job::decode(b).is_ok())),
        (join.encode().unwrap(), Box::new(|b| JoinRecord::decode(words::join_token(1), b).is_ok())),
        (generation.encode(), Box::new(|b| GenerationRecord::decode(b).is_ok())),
    ];
    let mut unsettled = generation.encode();
    unsettled[1] = 2;
    assert!(GenerationRecord::decode(&unsettled).is_err(), "neither settled nor not");
    let mut gate = gate::encode(&words::subject(Dimension::Owner, 1), &Gate::default()).unwrap();
    gate[1] = 2;
    assert!(gate::decode(&gate).is_err(), "a block that is neither there nor not must not read as none");
    for (bytes, read) in layouts {
        assert!(read(&bytes));
        for cut in 0..bytes.len() {
            assert!(!read(&bytes[..cut]), "cut at {cut}");
        }
        assert!(!read(&[bytes.as_slice(), b"\0"].concat()), "longer");
        let mut newer = bytes;
        newer[0] = 2;
        assert!(!read(&newer), "another version");
    }
}

#[test]
fn revocation_ids_have_one_text_form() {
    let id = JobId::new(UnixMillis(1_800_000_000_000), &[7; 10]);
    let text = id.to_string();
    assert!(text.starts_with("rev_") && text.len() == 36);
    assert_eq!(JobId::parse(&text).unwrap(), id);
    let upper = format!("rev_{}", text[4..].to_uppercase());
    assert_ne!(upper, text);
    for wrong in ["", "rev_", "rev_0123", &text[4..], &upper, &format!("{text}0")] {
        assert!(JobId::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn join_token_ids_have_one_text_form() {
    let id = JoinId([0, 0x1a, 2, 3, 4, 5, 6, 0xff]);
    assert_eq!(id.to_string(), "001a0203040506ff");
    assert_eq!(JoinId::parse("001a0203040506ff").unwrap(), id);
    assert_eq!(id.task().unwrap().as_str(), "join-001a0203040506ff");
    for wrong in ["", "001a0203040506f", "001A0203040506ff", "+01a0203040506ff", "001a0203040506ff0"] {
        assert!(JoinId::parse(wrong).is_err(), "{wrong}");
    }
}
