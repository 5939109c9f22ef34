//! Mayfly's extension of workloads' certificates: the observation, so that a certificate can be judged from what
//! it carries.
//!
//! ```text
//! id-mayfly-credential OBJECT IDENTIFIER ::= { 2 25 1946157831 }
//! MayflyCredential ::= SEQUENCE {
//!     version      INTEGER (1),
//!     observation  OCTET STRING }
//! ```
//!
//! Not critical. DER, and in one form only: what reads otherwise than it would be written is refused.

use mayfly_domain::Observation;
use mayfly_domain::codec::Malformed;
use x509_parser::asn1_rs::{Any, FromDer as _, Oid, Tag};

/// The extension's object identifier; its arcs are small, since some readers take no larger ones.
pub const OID: [u64; 3] = [2, 25, 1_946_157_831];
/// The longest extension that is read, in octets: an observation at its largest and what is around it.
pub const OCTETS_MAX: usize = 15 + 22 * Observation::MAX_PAIRS + 16 * Observation::MAX_ANCESTORS + 16;

const VERSION: u8 = 1;
const WHAT: &str = "Mayfly extension";

/// Writes the extension's value.
pub fn encode(observation: &Observation) -> Vec<u8> {
    let octets = tlv(0x04, &observation.encode());
    tlv(0x30, &[&[0x02, 1, VERSION], octets.as_slice()].concat())
}

/// Reads the extension's value.
///
/// # Errors
/// [`Malformed`] for another version, a form that [`encode`] does not give, or an observation that is none.
pub fn decode(der: &[u8]) -> Result<Observation, Malformed> {
    let no = |why| Malformed { what: WHAT, why };
    if der.len() > OCTETS_MAX {
        return Err(no("too long"));
    }
    let (_, sequence) = Any::from_der(der).map_err(|_| no("not DER"))?;
    let (rest, version) = Any::from_der(sequence.data).map_err(|_| no("not a sequence of two"))?;
    if version.tag() != Tag::Integer || version.data != [VERSION] {
        return Err(no("unknown version"));
    }
    let (_, octets) = Any::from_der(rest).map_err(|_| no("not a sequence of two"))?;
    let observation = Observation::decode(octets.data)?;
    // Tags, lengths and what may follow are told by writing it again.
    if encode(&observation) != der {
        return Err(no("not in its one form"));
    }
    Ok(observation)
}

/// Tag, length and value in DER (X.690 section 10.1): the shortest length.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let zeros = length.iter().take_while(|octet| **octet == 0).count();
    let length = length.get(zeros..).unwrap_or_default();
    let mut out = Vec::with_capacity(2 + length.len() + value.len());
    out.push(tag);
    if value.len() >= 0x80 {
        out.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
    }
    out.extend_from_slice(if value.is_empty() { &[0] } else { length });
    out.extend_from_slice(value);
    out
}

/// Whether an extension is this one.
pub(crate) fn is(oid: &Oid<'_>) -> bool {
    oid.iter().is_some_and(|arcs| arcs.eq(OID))
}

#[cfg(test)]
mod tests {
    use mayfly_domain::{DimKey, Fence, Generation, GenerationId, LeaseId, Pair};
    use proptest::prelude::*;

    use super::*;

    fn observation() -> impl Strategy<Value = Observation> {
        let pairs =
            proptest::collection::btree_map(any::<[u8; 16]>(), 0..=Fence::MAX, 0..=Observation::MAX_PAIRS);
        let ancestors = proptest::collection::btree_set(any::<[u8; 16]>(), 0..=Observation::MAX_ANCESTORS);
        (any::<u32>(), any::<[u8; 8]>(), pairs, ancestors).prop_map(|(number, id, pairs, ancestors)| {
            let generation = Generation { number, id: GenerationId(id) };
            let pairs =
                pairs.into_iter().map(|(k, f)| Pair { key: DimKey(k), fence: Fence::new(f).unwrap() });
            Observation::new(generation, pairs, ancestors.into_iter().map(LeaseId::from_bytes)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(observation in observation()) {
            let der = encode(&observation);
            prop_assert!(der.len() <= OCTETS_MAX);
            prop_assert_eq!(decode(&der).unwrap(), observation);
        }

        #[test]
        fn there_is_one_form_of_each(mut der in observation().prop_map(|o| encode(&o)), at: usize, octet: u8) {
            let at = at % der.len();
            der[at] = octet;
            if let Ok(observation) = decode(&der) {
                prop_assert_eq!(encode(&observation), der);
            }
        }

        #[test]
        fn any_octets_are_read_without_a_panic(der in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&der);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let generation = Generation { number: 1, id: GenerationId([2; 8]) };
        let good = encode(&Observation::new(generation, [], []).unwrap());
        assert_eq!(good[..7], [0x30, 20, 2, 1, 1, 4, 15]);
        assert!(decode(&good).is_ok());
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut der = good.clone();
            change(&mut der);
            decode(&der).map_err(|e| e.why)
        };
        for (what, change) in [
            ("trailing octets", &(|d: &mut Vec<u8>| d.push(0)) as &dyn Fn(&mut Vec<u8>)),
            ("another version", &|d| d[4] = 2),
            ("a version of two octets", &|d| {
                d.splice(3..5, [2, 0, 1]);
                d[1] += 1;
            }),
            ("a long length", &|d| {
                d.splice(1..2, [0x81, 20]);
            }),
            ("an indefinite length", &|d| {
                d[1] = 0x80;
                d.extend([0, 0]);
            }),
            ("a set", &|d| d[0] = 0x31),
            ("a constructed octet string", &|d| d[5] = 0x24),
            ("a third member", &|d| {
                d.extend([5, 0]);
                d[1] += 2;
            }),
            ("cut", &|d| d.truncate(10)),
            ("nothing", &|d| d.clear()),
            ("too long", &|d| d.resize(OCTETS_MAX + 1, 0)),
        ] {
            assert!(with(change).is_err(), "{what}");
        }
        assert!(is(&Oid::from(&OID).unwrap()));
        assert!(!is(&x509_parser::asn1_rs::oid!(2.25.1946157832)));
        assert!(!is(&x509_parser::asn1_rs::oid!(2.25.1946157831.1)));
    }
}
