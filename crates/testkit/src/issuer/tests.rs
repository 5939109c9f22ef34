use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

use super::*;

const NOW: UnixMillis = UnixMillis::from_secs(1_790_000_000);

fn part(token: &str, n: usize) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()
}

fn member(jwk: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()
}

fn verifies(alg: Alg, jwk: &Value, token: &str) -> bool {
    let (input, _) = token.rsplit_once('.').unwrap();
    let (input, signature) = (input.as_bytes(), part(token, 2));
    let point = || [vec![4], member(jwk, "x"), member(jwk, "y")].concat();
    let plain = |algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
        UnparsedPublicKey::new(algorithm, key).verify(input, &signature).is_ok()
    };
    let rsa = |parameters| {
        let key = RsaPublicKeyComponents { n: member(jwk, "n"), e: member(jwk, "e") };
        key.verify(parameters, input, &signature).is_ok()
    };
    match alg {
        Alg::Es256 => plain(&ECDSA_P256_SHA256_FIXED, point()),
        Alg::Es384 => plain(&ECDSA_P384_SHA384_FIXED, point()),
        Alg::EdDsa => plain(&ED25519, member(jwk, "x")),
        Alg::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        Alg::Rs384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
        Alg::Rs512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
        Alg::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
        Alg::Ps384 => rsa(&RSA_PSS_2048_8192_SHA384),
        Alg::Ps512 => rsa(&RSA_PSS_2048_8192_SHA512),
    }
}

#[test]
fn tokens_verify_with_the_published_key_in_every_algorithm() {
    for alg in Alg::ALL {
        let issuer = StandInIssuer::with_keys(vec![SigningKey::generate(alg, "k")]);
        let token = issuer.github_token(&Job::default(), "acme.internal#x", NOW);
        assert!(verifies(alg, &issuer.jwks()["keys"][0], &token), "{alg:?}");
        let header: Value = serde_json::from_slice(&part(&token, 0)).unwrap();
        assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some(alg.as_str()), Some("k")));
        let other = StandInIssuer::with_keys(vec![SigningKey::generate(alg, "k")]);
        assert!(!verifies(alg, &other.jwks()["keys"][0], &token), "{alg:?}");
    }
}

#[test]
fn claims_are_those_of_the_real_issuers() {
    let claims = github_claims(&Job::default(), "aud", NOW);
    assert_eq!(claims["sub"], "repo:acme@481516/payments@2342108:environment:production");
    assert_eq!((&claims["ref"], &claims["ref_type"]), (&json!("refs/tags/v1.4.0"), &json!("tag")));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), TOKEN_LIFE_S);
    let claims = gitlab_claims(&Job { environment: None, ..Job::default() }, "aud", NOW);
    assert_eq!(claims["sub"], "project_path:acme/payments:ref_type:tag:ref:v1.4.0");
    assert!(!claims.contains_key("environment") && !claims.contains_key("deployment_tier"));
}

#[test]
fn an_override_wins_and_null_removes() {
    let job = Job::default().claim("aud", json!(["a", "b"])).claim("environment", Value::Null);
    let claims = github_claims(&job, "aud", NOW);
    assert_eq!(claims["aud"], json!(["a", "b"]));
    assert!(!claims.contains_key("environment"));
    assert_ne!(github_claims(&job, "aud", NOW)["jti"], claims["jti"]);
}
