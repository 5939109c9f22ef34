//! The octets that are signed or stored: what decodes is written again as it was, or, where a body follows, to
//! something that decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_domain::feed::Event;
use mayfly_domain::nonce::Nonce;
use mayfly_domain::{CredentialId, EvidenceHash, LeaseId, Observation};
use mayfly_lease::transition::Binding;
use mayfly_lease::{GenerationRecord, Job, JoinRecord, LeaseRecord, Mark, TaskRecord, gate};

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    match which % 11 {
        0 => {
            if let Ok(it) = Observation::decode(bytes) {
                assert_eq!(it.encode(), bytes);
            }
        }
        1 => {
            if let Ok(it) = Nonce::decode(bytes) {
                assert_eq!(it.encode(), bytes);
            }
        }
        2 => {
            if let Ok(it) = CredentialId::from_serial(bytes) {
                assert_eq!(it.serial(), bytes);
            }
        }
        3 => {
            if let Ok(it) = GenerationRecord::decode(bytes) {
                assert_eq!(it.encode(), bytes);
            }
        }
        4 => {
            if let Ok(it) = Mark::decode(bytes) {
                assert_eq!(it.encode(), bytes);
            }
        }
        5 => {
            if let Ok(it) = Binding::decode(bytes) {
                assert_eq!(it.encode(), bytes);
            }
        }
        6 => {
            let id = LeaseId::from_bytes([7; 16]);
            if let Ok(it) = LeaseRecord::decode(id, bytes) {
                assert_eq!(LeaseRecord::decode(id, &it.encode().unwrap()), Ok(it));
            }
        }
        7 => {
            if let Ok(it) = TaskRecord::decode(bytes) {
                assert_eq!(TaskRecord::decode(&it.encode().unwrap()), Ok(it));
            }
            if let Ok(it) = Job::decode(bytes) {
                assert_eq!(Job::decode(&it.encode().unwrap()), Ok(it));
            }
        }
        8 => {
            if let Ok((Some(subject), it)) = gate::decode(bytes) {
                assert_eq!(gate::decode(&gate::encode(&subject, &it).unwrap()), Ok((Some(subject), it)));
            }
        }
        9 => {
            if let Ok(it) = Event::decode(bytes) {
                assert_eq!(it.encode(), bytes);
            }
        }
        _ => {
            let hash = EvidenceHash([7; 32]);
            if let Ok(it) = JoinRecord::decode(hash, bytes) {
                assert_eq!(JoinRecord::decode(hash, &it.encode().unwrap()), Ok(it));
            }
        }
    }
});
