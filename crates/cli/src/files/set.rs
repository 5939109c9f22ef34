//! A directory of files that belong together and are replaced together, the way Kubernetes does it for its volumes.
//!
//! ```text
//! DIR/..set-Xb3k9Q/{tls.crt,tls.key,ca.crt}     one generation
//! DIR/..data    -> ..set-Xb3k9Q                 the one in use: replaced by one rename
//! DIR/tls.crt   -> ..data/tls.crt               what readers open
//! ```
//!
//! The one before stays until the next, so that a reader who has begun with it can finish. Who resolves `..data`
//! once and opens the files below it gets one generation for certain.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const DATA: &str = "..data";
const GENERATION: &str = "..set-";

/// One file of a set.
pub(crate) struct Entry<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// What it holds.
    pub(crate) octets: &'a [u8],
    /// Its mode.
    pub(crate) mode: u32,
}

/// A directory of files that are replaced together. One process at a time holds it.
#[derive(Debug)]
pub(crate) struct SetDir {
    path: PathBuf,
    _lock: File,
}

impl SetDir {
    /// Takes the directory, made where it is missing.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where another process keeps it.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::open(path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Replaces all files at once; on failure the old ones stay.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn put(&self, entries: &[Entry<'_>]) -> io::Result<()> {
        let made = tempfile::Builder::new()
            .prefix(GENERATION)
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.path)?;
        for entry in entries {
            let path = made.path().join(entry.name);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(entry.mode).open(path)?;
            file.write_all(entry.octets)?;
            file.set_permissions(PermissionsExt::from_mode(entry.mode))?;
            file.sync_all()?;
        }
        let new = made.path().file_name().map(PathBuf::from).unwrap_or_default();
        let before = fs::read_link(self.path.join(DATA)).ok();
        self.link(&new, DATA)?;
        // From here on it is in use.
        let _ = made.keep();
        for entry in entries {
            self.link(&Path::new(DATA).join(entry.name), entry.name)?;
        }
        self.tidy(&[Some(new), before]);
        Ok(())
    }

    /// Makes `name` a link to `to`, in one step.
    fn link(&self, to: &Path, name: &str) -> io::Result<()> {
        let place = self.path.join(name);
        if fs::read_link(&place).is_ok_and(|held| held == to) {
            return Ok(());
        }
        let beside = self.path.join(format!("..new-{name}"));
        // What an interrupted run left.
        let _ = fs::remove_file(&beside);
        symlink(to, &beside)?;
        fs::rename(&beside, &place)
    }

    /// Removes generations that nobody reads any more.
    fn tidy(&self, keep: &[Option<PathBuf>]) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = PathBuf::from(entry.file_name());
            let ours = entry.file_name().to_string_lossy().starts_with(GENERATION);
            if ours && !keep.iter().flatten().any(|kept| *kept == name) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn entries(text: &str) -> [Entry<'_>; 2] {
        [("tls.crt", 0o644), ("tls.key", 0o600)].map(|(name, mode)| Entry {
            name,
            octets: text.as_bytes(),
            mode,
        })
    }

    #[test]
    fn a_reader_never_sees_two_generations() {
        let dir = tempfile::tempdir().unwrap();
        let set = SetDir::take(&dir.path().join("tls")).unwrap();
        let path = dir.path().join("tls");
        set.put(&entries("0")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    // Two replacements may pass it by.
                    let Ok(generation) = fs::canonicalize(path.join(DATA)) else { continue };
                    let read = |name: &str| fs::read_to_string(generation.join(name)).ok();
                    if let (Some(crt), Some(key)) = (read("tls.crt"), read("tls.key")) {
                        assert_eq!(crt, key);
                        seen += 1;
                    }
                }
                seen
            });
            for n in 1..200 {
                set.put(&entries(&n.to_string())).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        assert_eq!(fs::read_to_string(path.join("tls.crt")).unwrap(), "199");
        assert_eq!(fs::metadata(path.join("tls.key")).unwrap().permissions().mode() & 0o777, 0o600);
        let left = fs::read_dir(&path).unwrap().count();
        assert_eq!(left, 2 + 1 + 2, "two generations, the link to one, and the two names");
    }

    #[test]
    fn one_process_keeps_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = SetDir::take(dir.path()).unwrap();
        assert_eq!(SetDir::take(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        SetDir::take(dir.path()).unwrap();
    }

    #[test]
    fn a_failure_keeps_what_there_was() {
        let dir = tempfile::tempdir().unwrap();
        let set = SetDir::take(dir.path()).unwrap();
        set.put(&entries("old")).unwrap();
        let mut broken = entries("new");
        broken[1].name = "no/such/place";
        assert!(set.put(&broken).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("tls.crt")).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing half-made is left");
    }
}
