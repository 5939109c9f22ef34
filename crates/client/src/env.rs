//! The environment's variables, handed in so that a test owns them.

use std::collections::HashMap;
use std::path::PathBuf;

/// Where variables are read from. It shows no value in `Debug`: CI systems keep tokens in variables.
#[derive(Clone, Default)]
pub struct Env(Option<HashMap<String, String>>);

impl Env {
    /// The process's own environment.
    pub const fn process() -> Self {
        Self(None)
    }

    /// Exactly these variables.
    pub fn of<K: Into<String>, V: Into<String>>(vars: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Some(vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect()))
    }

    /// A variable's value; an empty one, or one that is not UTF-8, counts as absent.
    pub fn var(&self, name: &str) -> Option<String> {
        let value = match &self.0 {
            Some(vars) => vars.get(name).cloned(),
            None => std::env::var(name).ok(),
        };
        value.filter(|v| !v.is_empty())
    }

    /// A variable's value as an absolute path; a relative one counts as absent, as the XDG specification asks.
    pub fn dir(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from).filter(|p| p.is_absolute())
    }

    /// The directory of an XDG variable, or `fallback` below the home directory.
    pub fn xdg(&self, name: &str, fallback: &str) -> Option<PathBuf> {
        self.dir(name).or_else(|| self.dir("HOME").map(|home| home.join(fallback)))
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Env(fixed)" } else { "Env(process)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_relative_values_are_absent_and_debug_shows_none() {
        let env = Env::of([("A", ""), ("B", "secret"), ("XDG_CONFIG_HOME", "rel"), ("HOME", "/home/u")]);
        assert_eq!((env.var("A"), env.var("C")), (None, None));
        assert_eq!(env.var("B").as_deref(), Some("secret"));
        assert_eq!(env.xdg("XDG_CONFIG_HOME", ".config"), Some(PathBuf::from("/home/u/.config")));
        assert!(!format!("{env:?}").contains("secret"));
    }
}
