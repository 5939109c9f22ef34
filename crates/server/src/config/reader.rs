//! The one reader of configuration tables: typed fields by key, every mistake at once, and where each value
//! came from.
//!
//! A reader looks at one table. Reading a field records its key; [`Reader::finish`] then refuses every key
//! that nobody asked for. It must never stop at the first mistake.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mayfly_domain::FieldError;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Value};
use super::kinds::{Kinded, Wrong};
use super::problem::Problem;

/// The prefix of variables that override keys of `mayfly.toml`: `MAYFLY_CONFIG_SERVER_LISTEN`.
pub const ENVIRONMENT_PREFIX: &str = "MAYFLY_CONFIG_";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(String),
    /// The defaults.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One value as `mayfly config show --effective` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key's path.
    pub key: String,
    /// The value as TOML writes it.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What all readers of one load share: the mistakes, the values and the environment.
#[derive(Debug, Default)]
pub struct Notes {
    problems: RefCell<Vec<Problem>>,
    effective: RefCell<Vec<Effective>>,
    environment: BTreeMap<String, String>,
    variables: RefCell<BTreeSet<String>>,
}

impl Notes {
    /// Notes with the variables of the environment whose name starts with [`ENVIRONMENT_PREFIX`].
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment =
            environment.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        Self { environment, ..Self::default() }
    }

    /// Records a mistake.
    pub fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Records the mistakes that a compiler of raw structs found in `doc`. A key whose value could not be
    /// read is told once: the compiler saw it as missing.
    pub fn fields(&self, doc: &Document<'_>, errors: impl IntoIterator<Item = FieldError>) {
        for e in errors {
            if self.problems.borrow().iter().any(|p| p.file == doc.file && p.key == e.key) {
                continue;
            }
            self.push(Problem {
                file: doc.file.to_owned(),
                line: doc.line_of(&e.key),
                key: e.key,
                message: e.message,
            });
        }
    }

    /// How many mistakes there are so far.
    pub fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Refuses every variable that no reader asked for, and hands out mistakes and values.
    pub fn finish(self) -> (Vec<Problem>, Vec<Effective>) {
        let known = self.variables.into_inner();
        let mut problems = self.problems.into_inner();
        for name in self.environment.into_keys().filter(|name| !known.contains(name)) {
            let message = unknown("variable", &name, known.iter().map(String::as_str));
            problems.push(Problem { file: "environment".into(), line: 0, key: name, message });
        }
        (problems, self.effective.into_inner())
    }
}

/// Reads one table.
#[derive(Debug)]
pub struct Reader<'a> {
    doc: &'a Document<'a>,
    table: Option<&'a DeTable<'a>>,
    path: String,
    notes: &'a Notes,
    known: RefCell<Vec<&'static str>>,
    recorded: bool,
    overridable: bool,
}

impl<'a> Reader<'a> {
    /// Reads a document's outermost table.
    pub fn new(doc: &'a Document<'a>, notes: &'a Notes) -> Self {
        Self {
            doc,
            table: Some(doc.root()),
            path: String::new(),
            notes,
            known: RefCell::default(),
            recorded: false,
            overridable: false,
        }
    }

    /// The same, where variables of the environment come before the file, and values are recorded.
    pub fn overridable(doc: &'a Document<'a>, notes: &'a Notes) -> Self {
        Self { recorded: true, overridable: true, ..Self::new(doc, notes) }
    }

    /// Whether the table is in the file.
    pub fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// An empty table that stands for one that the file leaves out.
    pub fn absent(&self, path: &str) -> Reader<'a> {
        Reader { overridable: false, ..self.inner(None, path.to_owned()) }
    }

    /// Whether `key` has a value, in the file or by a variable.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
            || self.overridable && self.notes.environment.contains_key(&variable(&self.full(key)))
    }

    /// The value of `key` if it is there and of its kind.
    pub fn optional<T>(&self, key: &'static str, kind: impl Fn(&Value<'_>) -> Kinded<T>) -> Option<T> {
        self.look(key, kind).unwrap_or_default()
    }

    /// The value of `key`; that it is missing is a mistake.
    pub fn required<T>(&self, key: &'static str, kind: impl Fn(&Value<'_>) -> Kinded<T>) -> Option<T> {
        match self.look(key, kind) {
            Ok(None) => {
                self.wrong(key, "is missing");
                None
            }
            found => found.unwrap_or_default(),
        }
    }

    /// The value of `key`, or the default.
    pub fn or<T: std::fmt::Display>(
        &self,
        key: &'static str,
        kind: impl Fn(&Value<'_>) -> Kinded<T>,
        default: T,
    ) -> T {
        match self.look(key, kind) {
            Ok(Some(value)) => value,
            Ok(None) => {
                self.record(key, as_toml(&default.to_string()), Origin::Default);
                default
            }
            Err(Told) => default,
        }
    }

    /// The elements of the list at `key`, or none.
    pub fn all<T>(&self, key: &'static str, kind: impl Fn(&Value<'_>) -> Kinded<Vec<T>>) -> Vec<T> {
        match self.look(key, kind) {
            Ok(None) => {
                self.record(key, "[]".to_owned(), Origin::Default);
                Vec::new()
            }
            found => found.unwrap_or_default().unwrap_or_default(),
        }
    }

    /// The table at `key`; an empty one where it is absent.
    pub fn table(&self, key: &'static str) -> Reader<'a> {
        let table = match self.raw(key).map(|value| value.get_ref()) {
            Some(DeValue::Table(table)) => Some(table),
            Some(_) => {
                self.wrong(key, "must be a table");
                None
            }
            None => None,
        };
        self.inner(table, self.full(key))
    }

    /// The tables of the list at `key` (`[[key]]`).
    pub fn tables(&self, key: &'static str, max: usize) -> Vec<Reader<'a>> {
        let Some(value) = self.raw(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, format!("must be a list of tables, `[[{}]]`", self.full(key)));
            return Vec::new();
        };
        if items.len() > max {
            self.wrong(key, format!("has {} tables, more than {max}", items.len()));
        }
        let mut all = Vec::new();
        for (n, item) in items.iter().enumerate().take(max) {
            match item.get_ref() {
                DeValue::Table(table) => {
                    all.push(Reader {
                        overridable: false,
                        ..self.inner(Some(table), format!("{}[{n}]", self.full(key)))
                    });
                }
                _ => self.wrong(key, format!("must be a list of tables, `[[{}]]`", self.full(key))),
            }
        }
        all
    }

    /// The entries of the table at `key`, whose names are the file's own.
    pub fn entries(&self, key: &'static str) -> Vec<(&'a str, &'a Value<'a>)> {
        let inner = self.table(key);
        inner.table.map(|t| t.iter().map(|(k, v)| (&**k.get_ref(), v)).collect()).unwrap_or_default()
    }

    /// The value at `key` as it stands in the file, where its form is decided by the caller.
    pub fn raw(&self, key: &'static str) -> Option<&'a Value<'a>> {
        self.known.borrow_mut().push(key);
        self.table?.get(key)
    }

    /// Records a mistake at `key`, on its line or on its table's where it is absent.
    pub fn wrong(&self, key: &str, message: impl Into<String>) {
        let key = self.full(key);
        let line = self.doc.line_of(&key);
        self.notes.push(Problem { file: self.doc.file.to_owned(), line, key, message: message.into() });
    }

    /// Records what is wrong with the value of `key`, each on its own line.
    pub fn wrongs(&self, key: &str, all: Vec<Wrong>) {
        for Wrong { span, message } in all {
            match span {
                Some(span) => self.notes.push(Problem {
                    file: self.doc.file.to_owned(),
                    line: self.doc.line(span.start),
                    key: self.full(key),
                    message,
                }),
                None => self.wrong(key, message),
            }
        }
    }

    /// Refuses every key that nobody asked for, naming the nearest that is known.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let name: &str = key.get_ref();
            if known.iter().all(|k| *k != name) {
                self.notes.push(Problem {
                    file: self.doc.file.to_owned(),
                    line: self.doc.line(key.span().start),
                    key: self.full(name),
                    message: unknown("key", name, known.iter().copied()),
                });
            }
        }
    }

    fn inner(&self, table: Option<&'a DeTable<'a>>, path: String) -> Reader<'a> {
        Reader {
            doc: self.doc,
            table,
            path,
            notes: self.notes,
            known: RefCell::default(),
            recorded: self.recorded,
            overridable: self.overridable,
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn record(&self, key: &str, value: String, origin: Origin) {
        if self.recorded {
            self.notes.effective.borrow_mut().push(Effective { key: self.full(key), value, origin });
        }
    }

    fn look<T>(&self, key: &'static str, kind: impl Fn(&Value<'_>) -> Kinded<T>) -> Result<Option<T>, Told> {
        let in_file = self.raw(key);
        if self.overridable {
            let name = variable(&self.full(key));
            self.notes.variables.borrow_mut().insert(name.clone());
            if let Some(text) = self.notes.environment.get(&name) {
                return self.of_variable(key, name, text, kind);
            }
        }
        let Some(value) = in_file else { return Ok(None) };
        match kind(value) {
            Ok(good) => {
                let line = self.doc.line(value.span().start);
                let origin = Origin::File(self.doc.file.to_owned(), line);
                self.record(key, self.doc.source(value.span()).to_owned(), origin);
                Ok(Some(good))
            }
            Err(all) => {
                self.wrongs(key, all);
                Err(Told)
            }
        }
    }

    /// A variable is text, or, where text will not do, TOML.
    fn of_variable<T>(
        &self,
        key: &str,
        name: String,
        text: &str,
        kind: impl Fn(&Value<'_>) -> Kinded<T>,
    ) -> Result<Option<T>, Told> {
        let as_text = Value::new(0..text.len(), DeValue::String(text.into()));
        let found = kind(&as_text).or_else(|all| match DeValue::parse(text) {
            Ok(value) => kind(&value),
            Err(_) => Err(all),
        });
        match found {
            Ok(good) => {
                self.record(key, as_toml(text), Origin::Environment(name));
                Ok(Some(good))
            }
            Err(all) => {
                for Wrong { message, .. } in all {
                    self.notes.push(Problem {
                        file: "environment".into(),
                        line: 0,
                        key: name.clone(),
                        message,
                    });
                }
                Err(Told)
            }
        }
    }
}

/// The value was wrong, and that is recorded.
#[derive(Debug)]
struct Told;

/// Numbers, truth values and lists as they are, everything else in quotes.
fn as_toml(text: &str) -> String {
    match DeValue::parse(text) {
        Ok(_) => text.to_owned(),
        Err(_) => toml::Value::String(text.to_owned()).to_string(),
    }
}

fn variable(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let near = known
        .clone()
        .map(|k| (strsim::damerau_levenshtein(k, name), k))
        .filter(|(far, k)| *far <= 1 + k.len() / 3)
        .min();
    match near {
        Some((_, near)) => format!("unknown {what}; did you mean `{near}`?"),
        None if what == "key" => {
            let mut all: Vec<&str> = known.collect();
            all.sort_unstable();
            format!("unknown key; known here: {}", all.join(", "))
        }
        None => format!("unknown {what}"),
    }
}

#[cfg(test)]
mod tests;
