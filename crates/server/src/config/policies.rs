//! `schema/*.cedarschema`, `policies/*.cedar` and their tests, put together with profiles and operators into one engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mayfly_domain::TrustDomain;
use mayfly_policy::{Engine, PolicyTests, Profile};

use super::document::line_at;
use super::files::read_directory;
use super::people::Operator;
use super::problem::Problem;
use super::reader::Notes;

pub(super) fn engine(
    root: &Path,
    directories: &[PathBuf],
    notes: &Notes,
    trust_domain: Option<TrustDomain>,
    profiles: Vec<Profile>,
    operators: &[Operator],
) -> Option<Engine> {
    let texts = |directory: &Path, extension: &str| {
        let sources = read_directory(root, directory, extension, notes).into_iter();
        sources.map(|source| (source.file.display().to_string(), source.text)).collect::<Vec<_>>()
    };
    let schemas = texts(Path::new("schema"), "cedarschema");
    let policies: Vec<_> = directories.iter().flat_map(|directory| texts(directory, "cedar")).collect();
    let groups: BTreeMap<_, _> = operators.iter().map(|o| (o.name.clone(), o.groups.clone())).collect();
    match Engine::load(trust_domain?, &schemas, &policies, profiles, groups) {
        Ok(engine) => Some(engine),
        Err(errors) => {
            for e in errors {
                let file = if e.file.is_empty() { root.join("policies") } else { PathBuf::from(e.file) };
                let line = usize::try_from(e.line).unwrap_or_default();
                let message = match e.help {
                    Some(help) => format!("{}; {help}", e.message),
                    None => e.message,
                };
                notes.push(Problem { line, ..Problem::of_file(&file, message) });
            }
            None
        }
    }
}

pub(super) fn tests(root: &Path, notes: &Notes) -> Vec<(PathBuf, PolicyTests)> {
    let mut all = Vec::new();
    for source in read_directory(root, Path::new("policies/tests"), "toml", notes) {
        match toml::from_str(&source.text) {
            Ok(tests) => all.push((source.file, tests)),
            Err(e) => {
                let line = e.span().map_or(1, |span| line_at(&source.text, span.start));
                notes.push(Problem { line, ..Problem::of_file(&source.file, e.message()) });
            }
        }
    }
    all
}
