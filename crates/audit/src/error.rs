//! Why the audit file could not be opened.

use std::path::PathBuf;

/// Why the audit file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file can't be opened, read or written.
    #[error("audit file `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is a device, pipe or directory.
    #[error("audit file `{}` is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("audit file `{}` is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Its end holds no valid line.
    #[error("audit file `{}` does not end in an audit record; move it away and look at it", path.display())]
    NoValidEnd {
        /// The file.
        path: PathBuf,
    },
    /// The reserve's header is damaged.
    #[error("audit reserve `{}` is damaged; move it away and look at it", path.display())]
    Reserve {
        /// The file.
        path: PathBuf,
    },
    /// The writer's thread could not be started.
    #[error("the audit writer could not be started: {0}")]
    Thread(std::io::Error),
}

impl AuditError {
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
