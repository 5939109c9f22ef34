//! Short names that configuration gives to things.

use crate::text::{Invalid, text_type, visible};

fn slug(word: &'static str, input: &str) -> Result<(), Invalid> {
    visible(word, input, 64)?;
    let mut chars = input.chars();
    let first = chars.next().unwrap_or(' ');
    if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
        return Err(Invalid::new(word, input, "must start with a lower-case letter or a digit"));
    }
    if !chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')) {
        return Err(Invalid::new(word, input, "may hold lower-case letters, digits, `-`, `_` and `.` only"));
    }
    if input.contains("..") {
        return Err(Invalid::new(word, input, "must not hold `..`"));
    }
    Ok(())
}

fn intent(word: &'static str, input: &str) -> Result<(), Invalid> {
    let Some((verb, object)) = input.split_once(':') else {
        return Err(Invalid::new(word, input, "must be `verb:object`, such as `deploy:payments`"));
    };
    slug(word, verb)?;
    slug(word, object)
}

text_type!(
    /// A profile's name: what a workload asks for (`payments-deploy`).
    ProfileName, "profile", slug
);
text_type!(
    /// An integration: what a credential opens (`k8s-prod`).
    IntegrationName, "integration", slug
);
text_type!(
    /// A trust rule's name.
    RuleName, "trust rule", slug
);
text_type!(
    /// An operator's name, the last segment of the SPIFFE ID `/mayfly/operator/NAME`.
    OperatorName, "operator", slug
);
text_type!(
    /// An acceptor's name, the last segment of the SPIFFE ID `/mayfly/acceptor/NAME`.
    AcceptorName, "acceptor", slug
);
text_type!(
    /// A broker's name, the last segment of the SPIFFE ID `/mayfly/broker/NAME`.
    BrokerName, "broker", slug
);
text_type!(
    /// A group of operators (`oncall`).
    GroupName, "group", slug
);
text_type!(
    /// An environment (`production`) of a rule or a profile.
    Environment, "environment", slug
);
text_type!(
    /// A policy's `@id`.
    PolicyId, "policy id", slug
);
text_type!(
    /// What a task sets out to do: `verb:object`, one of the identifiers that a profile lists.
    Intent, "intent", intent
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_slugs() {
        for good in ["payments-deploy", "a", "0x", "k8s.prod_1"] {
            ProfileName::parse(good).unwrap();
        }
        for bad in ["", "-a", "A", "a b", "a/b", "a..b", "a}b", "ä", "a\u{202e}", &"a".repeat(65)] {
            assert!(ProfileName::parse(bad).is_err(), "{bad:?}");
        }
        Intent::parse("deploy:payments").unwrap();
        for bad in ["deploy", "deploy:", ":x", "a:b:c", "Deploy:x"] {
            assert!(Intent::parse(bad).is_err(), "{bad:?}");
        }
    }
}
