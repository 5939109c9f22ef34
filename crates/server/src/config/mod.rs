//! Configuration: raw files in, one valid configuration or every mistake out.
//!
//! `mayfly.toml` and the directories beside it (`trust/`, `profiles/`, `schema/`, `policies/`,
//! `operators/`, `acceptors/`) load as a whole or not at all. Nothing here looks at the network, opens a key or keeps
//! state; a secret is named by its file and never read here.

pub mod document;
mod feed;
pub mod files;
mod keys;
pub mod kinds;
pub mod people;
mod policies;
pub mod problem;
mod profiles;
pub mod reader;
mod rules;
pub mod settings;
pub mod store;
pub mod urls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mayfly_attest::RuleSet;
use mayfly_domain::{TrustDomain, defaults};
use mayfly_policy::{Engine, PolicyTests, TtlLimit, TtlLimits};

pub use feed::Feed;
pub use keys::{Module, Seal};
pub use people::{Acceptor, Operator};
pub use problem::{Problem, Problems};
pub use reader::{Effective, Origin};
pub use settings::{AuditSink, AuditSync, Life, Limits, Lives, Quotas, Rate, Server, Settings};
pub use store::{RedisStore, Store};

use document::Document;
use files::{Source, read_directory, read_file};
use reader::{Notes, Reader};

/// A whole configuration, valid.
#[derive(Debug)]
pub struct Loaded {
    /// `mayfly.toml`.
    pub settings: Settings,
    /// `trust/*.toml`.
    pub rules: RuleSet,
    /// `profiles/*.toml`, the policies and the operators' groups.
    pub engine: Engine,
    /// `operators/*.toml`, by name.
    pub operators: Vec<Operator>,
    /// `acceptors/*.toml`, by name.
    pub acceptors: Vec<Acceptor>,
    /// `policies/tests/*.toml`, by file.
    pub policy_tests: Vec<(PathBuf, PolicyTests)>,
    /// Every value of `mayfly.toml` that is in force and where it comes from, by key.
    pub effective: Vec<Effective>,
}

/// Loads `mayfly.toml` at `file` and the directories beside it. Variables of `environment` named
/// `MAYFLY_CONFIG_KEY` come before the file's keys.
///
/// # Errors
/// Every mistake in every file.
pub fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let notes = Notes::new(environment);
    let main = read_file(file).map_err(|e| Problems::new(vec![e]))?;
    let root = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let settings = with_document(&main, &notes, |doc, notes| {
        let reader = Reader::overridable(doc, notes);
        let settings = settings::settings(&reader);
        reader.finish();
        settings
    });
    // A wrong `mayfly.toml` must not hide what is wrong in the other files.
    let trust_domain = settings.as_ref().map(|s| s.trust_domain.clone());
    let trust_domain = trust_domain.or_else(|| TrustDomain::parse("unknown").ok());
    let longest = settings.as_ref().map_or(defaults::LINEAGE_MAX, Settings::longest_life);
    let rules = each(
        root,
        "trust",
        &notes,
        |doc, notes| rules::rule(doc, notes, trust_domain.as_ref()?, longest),
        |r| r.name().to_string(),
    );
    let rules = rules::together(rules, &root.join("trust"), &notes);
    let operators = each(root, "operators", &notes, people::operator, |o| o.name.to_string());
    let limit = |life: settings::Life| TtlLimit { default: life.default, max: life.max };
    let ttl = settings.as_ref().map(|s| TtlLimits { token: limit(s.ttl.token), x509: limit(s.ttl.x509) });
    let ttl = ttl.unwrap_or_default();
    let profiles = each(
        root,
        "profiles",
        &notes,
        |doc, notes| profiles::profile(doc, notes, ttl),
        |p| p.name.to_string(),
    );
    let policy_dirs = settings.as_ref().map(|s| s.policy_dirs.clone());
    let policy_dirs = policy_dirs.unwrap_or_else(|| vec![PathBuf::from("policies")]);
    let engine = policies::engine(root, &policy_dirs, &notes, trust_domain, profiles, &operators);
    let acceptors = each(root, "acceptors", &notes, people::acceptor, |a| a.name.to_string());
    let policy_tests = policies::tests(root, &notes);
    let (problems, mut effective) = notes.finish();
    effective.sort_by(|a, b| a.key.cmp(&b.key));
    match (settings, rules, engine) {
        (Some(settings), Some(rules), Some(engine)) if problems.is_empty() => {
            Ok(Loaded { settings, rules, engine, operators, acceptors, policy_tests, effective })
        }
        _ => Err(Problems::new(problems)),
    }
}

fn with_document<T>(
    source: &Source,
    notes: &Notes,
    read: impl FnOnce(&Document<'_>, &Notes) -> Option<T>,
) -> Option<T> {
    match Document::parse(&source.file, &source.text) {
        Ok(doc) => read(&doc, notes),
        Err(problems) => {
            problems.into_iter().for_each(|p| notes.push(p));
            None
        }
    }
}

/// Reads every file of a directory; the same name twice is a mistake of the second.
fn each<T>(
    root: &Path,
    directory: &str,
    notes: &Notes,
    read: impl Fn(&Document<'_>, &Notes) -> Option<T>,
    name: impl Fn(&T) -> String,
) -> Vec<T> {
    let mut all: BTreeMap<String, (T, Source)> = BTreeMap::new();
    for source in read_directory(root, Path::new(directory), "toml", notes) {
        let Some((one, line)) = with_document(&source, notes, |doc, notes| {
            let line = doc.line_of("name");
            read(doc, notes).map(|one| (one, line))
        }) else {
            continue;
        };
        match all.entry(name(&one)) {
            std::collections::btree_map::Entry::Occupied(first) => notes.push(Problem {
                file: source.file,
                line,
                key: "name".to_owned(),
                message: format!("`{}` is the name in {} too", first.key(), first.get().1.file.display()),
            }),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert((one, source));
            }
        }
    }
    all.into_values().map(|(one, _)| one).collect()
}

#[cfg(test)]
mod tests;
