//! Whose evidence a rule accepts, and how that is bound to a key.

use std::collections::BTreeSet;

use mayfly_domain::Audience;
use mayfly_domain::text::shown;
use url::Url;

use super::Mistakes;
use crate::attested::OnOtherKey;
use crate::issuer::{Algorithm, Issuer, Trusted};
use crate::preset::{Bind, Preset};
use crate::raw::RawTrustRule;

/// An absolute `https` URL without user, query and fragment.
fn https(input: &str) -> Result<String, String> {
    let no = |why: &str| format!("`{}` {why}", shown(input));
    if input.len() > 512 || !input.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no("is not a URL of at most 512 visible ASCII characters"));
    }
    let url = Url::parse(input).map_err(|_| no("is not a URL"))?;
    if url.scheme() != "https" || url.host_str().is_none_or(str::is_empty) {
        return Err(no("must start with `https://` and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(no("must have no user and no fragment"));
    }
    Ok(input.to_owned())
}

/// The issuer of tokens, or the authority of certificates.
pub(super) fn trusted(m: &mut Mistakes, raw: &RawTrustRule, preset: &Preset) -> Option<Trusted> {
    if !preset.is_x509() {
        if raw.authority.is_some() {
            m.add("ca_file", "is for `preset = \"x509\"`: other evidence has no certificate");
        }
        return issuer(m, raw, preset).map(Trusted::Issuer);
    }
    for (key, there) in [
        ("issuer", raw.issuer.is_some()),
        ("jwks_uri", raw.jwks_uri.is_some()),
        ("jwks_host", raw.jwks_host.is_some()),
        ("algorithms", !raw.algorithms.is_empty()),
    ] {
        if there {
            m.add(key, "is for tokens: the issuer of certificates is the authority in `ca_file`");
        }
    }
    if raw.authority.is_none() {
        m.add("ca_file", "is missing: it names the file with the authority's certificate");
    }
    raw.authority.clone().map(Trusted::Authority)
}

fn issuer(m: &mut Mistakes, raw: &RawTrustRule, preset: &Preset) -> Option<Issuer> {
    let url = match raw.issuer.as_deref().or(preset.issuer) {
        Some(url) => m.take("issuer", https(url)).filter(|url| {
            let plain = !url.contains('?');
            if !plain {
                m.add("issuer", "must have no query");
            }
            plain
        }),
        None => {
            if raw.preset.is_none() {
                m.add("issuer", "is missing: a rule without a preset names its issuer");
            }
            None
        }
    };
    let jwks_uri = m.optional("jwks_uri", raw.jwks_uri.as_deref(), https);
    let jwks_host = m.optional("jwks_host", raw.jwks_host.as_deref(), |host: &str| {
        let good = Url::parse(&format!("https://{host}/"))
            .is_ok_and(|u| u.path() == "/" && u.username().is_empty() && host_and_port(&u) == *host);
        if good {
            Ok(host.to_owned())
        } else {
            Err(format!("`{}` is not a lower-case host name", shown(host)))
        }
    });
    let mut algorithms = BTreeSet::new();
    for one in &raw.algorithms {
        algorithms.extend(m.take("algorithms", Algorithm::parse(one)));
    }
    Some(Issuer { url: url?, jwks_uri, jwks_host, algorithms: algorithms.into_iter().collect() })
}

fn host_and_port(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// How evidence is bound to a key, what happens when another key presents it, and the audience that it must have.
pub(super) fn binding(
    m: &mut Mistakes,
    raw: &RawTrustRule,
    preset: &Preset,
    trust_domain: &str,
) -> Option<(Bind, OnOtherKey, Audience)> {
    let bind = m.optional("bind", raw.bind.as_deref(), bind).unwrap_or(preset.bind);
    if (bind == Bind::Proof) != preset.is_x509() {
        m.add(
            "bind",
            if preset.is_x509() {
                "must be `proof`: a certificate's own key signs for each call"
            } else {
                "`proof` is for certificates: a token has no key of its own"
            },
        );
    }
    let on_other_key =
        m.optional("on_other_key", raw.on_other_key.as_deref(), on_other_key).unwrap_or(OnOtherKey::Refuse);
    if bind != Bind::FirstUse && on_other_key == OnOtherKey::Supersede {
        m.add(
            "on_other_key",
            "`supersede` needs `bind = \"first-use\"`: other evidence is worth nothing without its key",
        );
    }
    if bind == Bind::Proof && raw.audience.is_some() {
        m.add("audience", "is for tokens: a certificate has none");
    }
    let audience = m.take("audience", Audience::parse(raw.audience.as_deref().unwrap_or(trust_domain)))?;
    if bind == Bind::Audience && audience.as_str().contains('#') {
        m.add("audience", "must not hold `#`: the key's thumbprint follows it");
    }
    Some((bind, on_other_key, audience))
}

fn bind(input: &str) -> Result<Bind, String> {
    [Bind::Audience, Bind::FirstUse, Bind::Proof]
        .into_iter()
        .find(|b| b.as_str() == input)
        .ok_or_else(|| format!("`{}` must be `audience`, `first-use` or `proof`", shown(input)))
}

fn on_other_key(input: &str) -> Result<OnOtherKey, String> {
    match input {
        "refuse" => Ok(OnOtherKey::Refuse),
        "supersede" => Ok(OnOtherKey::Supersede),
        other => Err(format!("`{}` must be `refuse` or `supersede`", shown(other))),
    }
}
