//! Files that hold credentials: always complete, never readable by others, gone when they should be.

mod private;
mod set;

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mayfly_client::Failure;
use mayfly_domain::Reason;

pub(crate) use private::PrivateDir;
pub(crate) use set::{Entry, SetDir};

/// What only its owner may read.
pub(crate) const SECRET: u32 = 0o600;
/// What everybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Writes a file: a reader sees the old one or the new one, whole; on failure the old one stays.
///
/// # Errors
/// What the system says.
pub(crate) fn put(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".mayfly-").tempfile_in(dir)?;
    file.write_all(octets)?;
    // Against the mask of this process: what is meant is what is there.
    file.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A failure to write a credential.
pub(crate) fn unwritten(place: &Path, e: &io::Error) -> Failure {
    let next = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or choose another place"
        }
        _ => "choose a place that this user may write to",
    };
    Failure::of(Reason::ConfigInvalid)
        .fact("where", place.display().to_string())
        .fact("problem", e.to_string())
        .next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (octets, mode) in [("first", 0o600), ("second", 0o644)] {
            put(&path, octets.as_bytes(), mode).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), octets);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        assert!(put(&dir.path().join("no/token"), b"x", 0o600).is_err());
    }
}
