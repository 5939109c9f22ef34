//! A private directory for one command, in memory where the system has a place for that.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mayfly_client::{Env, Failure};
use tempfile::TempDir;

use super::unwritten;

/// `statfs` types of file systems that are in memory alone (`tmpfs`, `ramfs`).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// A directory of mode 0700 that goes with this.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    dir: TempDir,
    /// Whether what is written there reaches no disk.
    pub(crate) in_memory: bool,
}

impl PrivateDir {
    /// Makes one below `XDG_RUNTIME_DIR` or `/dev/shm`, where that is in memory and may be written to; else in the
    /// directory for temporary files.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where the place is full, or there is none.
    pub(crate) fn make(env: &Env) -> Result<Self, Failure> {
        let memory = env.dir("XDG_RUNTIME_DIR").into_iter().chain([PathBuf::from("/dev/shm")]);
        for place in memory.filter(|place| is_in_memory(place)) {
            match private_in(&place) {
                Ok(dir) => return Ok(Self { dir, in_memory: true }),
                // Another user's, or read-only: the next place may do.
                Err(e) if passed_over(&e) => {}
                Err(e) => return Err(unwritten(&place, &e)),
            }
        }
        let place = env.dir("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
        let dir = private_in(&place).map_err(|e| unwritten(&place, &e))?;
        Ok(Self { dir, in_memory: is_in_memory(&place) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn passed_over(e: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(e.kind(), PermissionDenied | NotFound | ReadOnlyFilesystem)
}

fn private_in(place: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("mayfly-").permissions(PermissionsExt::from_mode(0o700)).tempdir_in(place)
}

fn is_in_memory(place: &Path) -> bool {
    #[expect(clippy::useless_conversion, reason = "its width differs by architecture")]
    rustix::fs::statfs(place).is_ok_and(|fs| IN_MEMORY.contains(&i64::from(fs.f_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_with_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let env = Env::of([("TMPDIR", base.path().to_str().unwrap()), ("XDG_RUNTIME_DIR", "/no/such/place")]);
        let made = PrivateDir::make(&env).unwrap();
        let path = made.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(made.in_memory || path.starts_with(base.path()));
        drop(made);
        assert!(!path.exists());
    }
}
