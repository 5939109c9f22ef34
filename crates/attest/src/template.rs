//! Injective templates: from verified claims to SPIFFE paths, owners and task ids.
//!
//! A `{claim}` is replaced by the claim's value, escaped by [`escape_segment`]: `[a-z0-9-]` and inner `.`
//! stay, every other octet becomes `_` and two hexadecimal digits. Where one segment (the text between two
//! `/`) holds several claims, `-` and `.` in their values are escaped too and a literal between two claims
//! holds at least one character that no escaped value can hold. So different values never give the same
//! text. This module must never replace an absent or empty claim by anything.

use mayfly_domain::spiffe::escape_segment;

use crate::evidence::Claims;

/// The longest template, in octets.
const OCTETS_MAX: usize = 512;
/// The most claims of one template.
const CLAIMS_MAX: usize = 8;

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is empty or too long.
    #[error("must be 1 to {OCTETS_MAX} octets")]
    Length,
    /// A brace is open at the end, or another opens within.
    #[error("has a `{{` without its `}}`")]
    Unclosed,
    /// A brace closes that was never opened.
    #[error("has a `}}` without its `{{`")]
    Stray,
    /// The text between braces is no claim's name.
    #[error("`{{{0}}}` does not name a claim: letters, digits and `_` only")]
    Name(String),
    /// Too many claims.
    #[error("names more than {CLAIMS_MAX} claims")]
    Claims,
    /// Two claims that could run into one another.
    #[error("`{{{0}}}` and `{{{1}}}` could run into one another: put `/`, `-` or `.` between them")]
    Adjacent(String, String),
}

/// Why claims could not fill a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the claim `{claim}` {why}")]
pub struct Unfilled {
    /// The claim.
    pub claim: String,
    /// What is wrong with it.
    pub why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Claim { name: String, strict: bool },
}

/// A template.
///
/// INVARIANT: injective in the claims that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(text) => f.write_str(text),
            Part::Claim { name, .. } => write!(f, "{{{name}}}"),
        })
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong with it.
    pub fn parse(input: &str) -> Result<Self, TemplateError> {
        if input.is_empty() || input.len() > OCTETS_MAX {
            return Err(TemplateError::Length);
        }
        let mut parts = Vec::new();
        let mut rest = input;
        while let Some((literal, after)) = rest.split_once('{') {
            push_literal(&mut parts, literal)?;
            let (name, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
            if name.contains('{') {
                return Err(TemplateError::Unclosed);
            }
            if !is_claim_name(name) {
                return Err(TemplateError::Name(mayfly_domain::text::shown(name)));
            }
            parts.push(Part::Claim { name: name.to_owned(), strict: false });
            rest = after;
        }
        push_literal(&mut parts, rest)?;
        if parts.iter().filter(|p| matches!(p, Part::Claim { .. })).count() > CLAIMS_MAX {
            return Err(TemplateError::Claims);
        }
        keep_apart(&mut parts)?;
        Ok(Self { parts })
    }

    /// The claims that it names, in order.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            Part::Claim { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The literal text before the first claim.
    pub fn literal_start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether some claims make of this template a path that others make of `other`. Claims never hold a `/`, so
    /// segments are compared one by one; where both ends of two segments fit, they are said to be able to meet.
    pub fn can_meet(&self, other: &Self) -> bool {
        let (a, b) = (self.outline(), other.outline());
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split('/').collect(), b.split('/').collect());
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| segments_can_meet(a, b))
    }

    /// The template with `*`, which no path holds, for each claim.
    fn outline(&self) -> String {
        let part = |p: &Part| match p {
            Part::Literal(text) => text.clone(),
            Part::Claim { .. } => "*".to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// Fills the template.
    ///
    /// # Errors
    /// [`Unfilled`] where a claim is absent, empty, not text, or too long.
    pub fn fill(&self, claims: &Claims) -> Result<String, Unfilled> {
        self.fill_with(|name| match claims.get(name) {
            None => Err("is absent"),
            Some(value) => value.as_text().ok_or("is not text"),
        })
    }

    /// Fills the template with the same value for each claim, to see at load what it makes.
    ///
    /// # Errors
    /// [`Unfilled`] where the value is empty or too long.
    pub fn sample(&self, value: &str) -> Result<String, Unfilled> {
        self.fill_with(|_| Ok(value))
    }

    fn fill_with<'a>(
        &self,
        value: impl Fn(&str) -> Result<&'a str, &'static str>,
    ) -> Result<String, Unfilled> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Claim { name, strict } => {
                    let unfilled = |why| Unfilled { claim: name.clone(), why };
                    let value = value(name).map_err(unfilled)?;
                    if value.is_empty() {
                        return Err(unfilled("is empty"));
                    }
                    let escaped =
                        escape_segment(value).map_err(|_| unfilled("is too long for a template"))?;
                    if *strict {
                        out.push_str(&escaped.replace('-', "_2d").replace('.', "_2e"));
                    } else {
                        out.push_str(&escaped);
                    }
                }
            }
        }
        Ok(out)
    }
}

fn segments_can_meet(a: &str, b: &str) -> bool {
    let fit = |(x, y): (&str, &str), ends: fn(&str, &str) -> bool| ends(x, y) || ends(y, x);
    match (a.split_once('*'), b.split_once('*')) {
        (None, None) => a == b,
        (Some((start, _)), None) => b.starts_with(start) && b.ends_with(last(a)),
        (None, Some((start, _))) => a.starts_with(start) && a.ends_with(last(b)),
        (Some((x, _)), Some((y, _))) => {
            fit((x, y), |x, y| x.starts_with(y)) && fit((last(a), last(b)), |x, y| x.ends_with(y))
        }
    }
}

/// What follows the last claim of an outline's segment.
fn last(segment: &str) -> &str {
    segment.rsplit('*').next().unwrap_or_default()
}

/// Whether a name is one that templates and matches may use.
pub(crate) fn is_claim_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn push_literal(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.contains('}') {
        return Err(TemplateError::Stray);
    }
    if !text.is_empty() {
        parts.push(Part::Literal(text.to_owned()));
    }
    Ok(())
}

/// Marks the claims that share a segment, and demands a separator between them.
fn keep_apart(parts: &mut [Part]) -> Result<(), TemplateError> {
    let separates = |text: &str| text.bytes().any(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let mut last: Option<usize> = None;
    let mut between = String::new();
    let mut shared = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Literal(text) => between.push_str(text),
            Part::Claim { name, .. } => {
                if let Some(before) = last
                    && !between.contains('/')
                {
                    if !separates(&between) {
                        let first = match parts.get(before) {
                            Some(Part::Claim { name, .. }) => name.clone(),
                            _ => String::new(),
                        };
                        return Err(TemplateError::Adjacent(first, name.clone()));
                    }
                    shared.extend([before, at]);
                }
                last = Some(at);
                between.clear();
            }
        }
    }
    for at in shared {
        if let Some(Part::Claim { strict, .. }) = parts.get_mut(at) {
            *strict = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::ClaimValue;

    fn claims(pairs: &[(&str, &str)]) -> Claims {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), ClaimValue::Text((*v).to_owned()))).collect()
    }

    #[test]
    fn what_is_refused() {
        for (bad, error) in [
            ("", TemplateError::Length),
            (&*"x".repeat(513), TemplateError::Length),
            ("a{b", TemplateError::Unclosed),
            ("a{b{c}}", TemplateError::Unclosed),
            ("a}b", TemplateError::Stray),
            ("{a}}", TemplateError::Stray),
            ("{}", TemplateError::Name(String::new())),
            ("{a b}", TemplateError::Name("a b".into())),
            ("{a}{b}", TemplateError::Adjacent("a".into(), "b".into())),
            ("{a}_{b}", TemplateError::Adjacent("a".into(), "b".into())),
            ("{a}x1{b}", TemplateError::Adjacent("a".into(), "b".into())),
            (&*"{a}/".repeat(9), TemplateError::Claims),
        ] {
            assert_eq!(Template::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn how_values_are_escaped() {
        let fill = |t: &str, c: &[(&str, &str)]| Template::parse(t).unwrap().fill(&claims(c));
        assert_eq!(fill("gh-{r}-{n}", &[("r", "17"), ("n", "2")]).unwrap(), "gh-17-2");
        assert_eq!(fill("/ci/{r}/{e}", &[("r", "a.b-c"), ("e", "Prod")]).unwrap(), "/ci/a.b-c/_50rod");
        assert_eq!(
            fill("/ci/{r}-{e}", &[("r", "a.b-c"), ("e", "x/..")]).unwrap(),
            "/ci/a_2eb_2dc-x_2f_2e_2e"
        );
        assert_eq!(fill("/{r}", &[("r", "..")]).unwrap(), "/_2e.");
        for value in ["", &"x".repeat(513)] {
            assert!(fill("/{r}", &[("r", value)]).is_err());
        }
        let absent = fill("/{r}", &[]).unwrap_err();
        assert_eq!((absent.claim.as_str(), absent.why), ("r", "is absent"));
        let mut list = claims(&[]);
        list.insert("r".into(), ClaimValue::List(vec!["a".into()]));
        assert!(Template::parse("/{r}").unwrap().fill(&list).is_err());
    }

    #[test]
    fn templates_that_can_make_one_path_are_known() {
        let t = |text: &str| Template::parse(text).unwrap();
        for (a, b, meet) in [
            ("/robots/{name}", "/robots/admin", true),
            ("/robots/{name}", "/robots/{job}", true),
            ("/ci/{a}-{b}/x", "/ci/p-q/x", true),
            ("/ci/p{a}", "/ci/{b}q", true),
            ("/robots/admin", "/robots/admin", true),
            ("/robots/{name}", "/robots/a/b", false),
            ("/robots/{name}", "/people/admin", false),
            ("/robots/x-{name}", "/robots/admin", false),
            ("/robots/{name}-x", "/robots/admin", false),
            ("/ci/p{a}", "/ci/q{b}", false),
            ("/robots/admin", "/robots/other", false),
        ] {
            assert_eq!((t(a).can_meet(&t(b)), t(b).can_meet(&t(a))), (meet, meet), "{a} {b}");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c._/-]{1,6}", "(_2d|-|_|2d|_2e|\\.){1,4}", any::<String>()]
            .prop_filter("not empty", |v| !v.is_empty() && v.len() < 100)
    }

    proptest! {
        #[test]
        fn different_claims_give_different_texts(
            shape in prop::sample::select(vec!["/x/{a}/{b}", "gh-{a}-{b}", "{a}.x{b}", "{a}/y-{b}.z", "p{a}:{b}"]),
            a in value(), b in value(), c in value(), d in value(),
        ) {
            let t = Template::parse(shape).unwrap();
            let one = t.fill(&claims(&[("a", &a), ("b", &b)])).unwrap();
            let two = t.fill(&claims(&[("a", &c), ("b", &d)])).unwrap();
            prop_assert_eq!(one == two, (a, b) == (c, d));
        }

        #[test]
        fn parsing_never_panics(input in any::<String>()) {
            if let Ok(t) = Template::parse(&input) {
                let _ = t.sample("x");
            }
        }
    }
}
