//! What a key signs: DPoP proofs (RFC 9449, section 4.2) for services, envelopes for brokers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::envelope::signing_input;
use mayfly_domain::{Reason, Refusal, TrustDomain, UnixMillis};
use mayfly_proto::v1 as pb;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use url::Url;

use crate::keys::WorkloadKey;

#[derive(Serialize)]
struct Header {
    typ: &'static str,
    alg: &'static str,
    jwk: Box<serde_json::value::RawValue>,
}

#[derive(Serialize)]
struct Claims<'a> {
    jti: String,
    htm: &'a str,
    htu: &'a str,
    iat: u64,
    ath: String,
}

fn encoded(what: &impl Serialize) -> Result<String, Refusal> {
    let json = serde_json::to_vec(what).map_err(|e| Refusal::new(Reason::Internal, e.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// Makes the DPoP proof for one request with an access token: the value of its `DPoP` header.
///
/// The URL is signed without query and fragment, as the RFC asks. A proof is for one request, within a minute.
///
/// # Errors
/// `INPUT_INVALID` for a method that is not one; `INTERNAL` without random numbers.
pub fn dpop(
    key: &WorkloadKey,
    method: &str,
    url: &Url,
    token: &str,
    now: UnixMillis,
) -> Result<String, Refusal> {
    if method.is_empty() || method.len() > 32 || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
    {
        return Err(mayfly_domain::Invalid::new(
            "method",
            method,
            "must be upper-case letters, such as `GET`",
        )
        .into());
    }
    let mut htu = url.clone();
    htu.set_query(None);
    htu.set_fragment(None);
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| Refusal::new(Reason::Internal, "no random numbers"))?;
    let jwk = serde_json::value::RawValue::from_string(key.public().canonical_jwk())
        .map_err(|e| Refusal::new(Reason::Internal, e.to_string()))?;
    let header = Header { typ: "dpop+jwt", alg: "ES256", jwk };
    let claims = Claims {
        jti: URL_SAFE_NO_PAD.encode(random),
        htm: method,
        htu: htu.as_str(),
        iat: now.secs(),
        ath: URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes())),
    };
    let mut out = format!("{}.{}", encoded(&header)?, encoded(&claims)?);
    let signature = key.sign(out.as_bytes())?;
    out.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut out);
    Ok(out)
}

/// Signs one call: the envelope of the RPC `rpc` (its full name) with this payload and nonce.
///
/// # Errors
/// `INTERNAL` without random numbers.
pub fn envelope(
    key: &WorkloadKey,
    trust_domain: &TrustDomain,
    rpc: &str,
    nonce: Vec<u8>,
    payload: Vec<u8>,
) -> Result<pb::Envelope, Refusal> {
    let signature = key.sign(&signing_input(trust_domain, rpc, &nonce, key.public(), &payload))?;
    let public =
        pb::PublicKey { algorithm: pb::KeyAlgorithm::P256.into(), key: key.public().as_bytes().to_vec() };
    Ok(pb::Envelope { payload, key: Some(public), nonce, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyHome, KeyScope};

    fn key() -> (tempfile::TempDir, WorkloadKey) {
        let dir = tempfile::tempdir().unwrap();
        let trust_domain = TrustDomain::parse("acme.internal").unwrap();
        let scope = KeyScope { trust_domain, issuer: "i".into(), task: "t".into() };
        let key = KeyHome::at(dir.path().join("mayfly")).unwrap().key(&scope).unwrap();
        (dir, key)
    }

    fn part(proof: &str, n: usize) -> serde_json::Value {
        let text = URL_SAFE_NO_PAD.decode(proof.split('.').nth(n).unwrap()).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_proof_is_what_the_rfc_says() {
        let (_dir, key) = key();
        let url = Url::parse("https://api.example/deploy?x=1#y").unwrap();
        let proof = dpop(&key, "POST", &url, "token", UnixMillis(1_700_000_000_999)).unwrap();
        let (header, claims) = (part(&proof, 0), part(&proof, 1));
        assert_eq!(header["typ"], "dpop+jwt");
        assert_eq!(header["alg"], "ES256");
        assert_eq!(header["jwk"]["kty"], "EC");
        assert!(header["jwk"].get("d").is_none());
        assert_eq!(claims["htm"], "POST");
        assert_eq!(claims["htu"], "https://api.example/deploy");
        assert_eq!(claims["iat"], 1_700_000_000);
        // SHA-256 of `token`.
        assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
        let (signed, signature) = proof.rsplit_once('.').unwrap();
        assert!(key.public().verifies(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()));
        let again = dpop(&key, "POST", &url, "token", UnixMillis(1_700_000_000_999)).unwrap();
        assert_ne!(part(&again, 1)["jti"], claims["jti"], "each proof is its own");
        assert!(dpop(&key, "get it", &url, "token", UnixMillis(0)).is_err());
    }

    #[test]
    fn an_envelope_is_for_one_call_at_one_trust_domain() {
        let (_dir, key) = key();
        let ours = TrustDomain::parse("acme.internal").unwrap();
        let theirs = TrustDomain::parse("staging.internal").unwrap();
        let made = envelope(&key, &ours, "S/Renew", vec![1], vec![2]).unwrap();
        let signed_for = |td: &TrustDomain, rpc: &str| {
            let input = signing_input(td, rpc, &made.nonce, key.public(), &made.payload);
            key.public().verifies(&input, &made.signature)
        };
        assert!(signed_for(&ours, "S/Renew"));
        assert!(!signed_for(&ours, "S/Release"));
        assert!(!signed_for(&theirs, "S/Renew"));
    }
}
