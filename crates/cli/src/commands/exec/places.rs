//! Where the pieces of each credential are kept: the private directory, and the files that were asked for beside it.
//!
//! `DIR/PROFILE/token`; `DIR/PROFILE/{tls.crt,tls.key,ca.crt}`, replaced together; `DIR/proof.key`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mayfly_client::{Failure, Svid};
use mayfly_domain::{ProfileName, Reason, Secret};

use super::wants::{FileCopy, Part};
use crate::files::{PrivateDir, SECRET, SetDir, put, unwritten};
use crate::tls_files;

/// The variable that names the private directory.
const DIR: &str = "MAYFLY_CREDENTIALS_DIR";

/// A variable of the command and the file that it names.
pub(super) type Named = (&'static str, PathBuf);

/// The pieces of one profile's credential, where they are.
#[derive(Debug)]
pub(super) struct Place {
    profile: ProfileName,
    dir: PathBuf,
    copies: Vec<Kept>,
    /// For a certificate: its files, replaced together.
    set: Option<SetDir>,
}

/// A file beside the private directory, and whether it is this place's by now: until it was written, what lies at its
/// path is somebody else's.
#[derive(Debug)]
struct Kept {
    copy: FileCopy,
    written: AtomicBool,
}

impl Kept {
    const fn new(copy: FileCopy) -> Self {
        Self { copy, written: AtomicBool::new(false) }
    }

    fn put(&self, text: &str) -> Result<(), Failure> {
        write(&self.copy.path, text)?;
        self.written.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    put(path, text.as_bytes(), SECRET).map_err(|e| unwritten(path, &e))
}

impl Place {
    /// A place for a profile, empty as yet.
    pub(super) fn new(base: &PrivateDir, profile: &ProfileName, copies: &[FileCopy]) -> Self {
        let dir = base.path().join(profile.as_str());
        let own = copies.iter().filter(|copy| copy.piece.profile == *profile);
        let copies = own.cloned().map(Kept::new).collect();
        Self { profile: profile.clone(), dir, copies, set: None }
    }

    /// The profile.
    pub(super) const fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// Makes room for a token.
    ///
    /// # Errors
    /// `INPUT_INVALID` where a piece was asked for that a token does not have; `CONFIG_INVALID` where nothing can be
    /// written.
    pub(super) fn for_token(self) -> Result<Self, Failure> {
        self.only(&[Part::Token], "an access token")?;
        std::fs::create_dir(&self.dir).map_err(|e| unwritten(&self.dir, &e))?;
        Ok(self)
    }

    /// Makes room for a certificate.
    ///
    /// # Errors
    /// As [`Place::for_token`].
    pub(super) fn for_certificate(mut self) -> Result<Self, Failure> {
        self.only(&[Part::Cert, Part::Key, Part::Ca], "a certificate")?;
        self.set = Some(SetDir::take(&self.dir).map_err(|e| unwritten(&self.dir, &e))?);
        Ok(self)
    }

    fn only(&self, parts: &[Part], what: &str) -> Result<(), Failure> {
        let mut copies = self.copies.iter().map(|kept| &kept.copy);
        match copies.find(|copy| !parts.contains(&copy.piece.part)) {
            None => Ok(()),
            Some(copy) => Err(Failure::of(Reason::InputInvalid)
                .fact("file", copy.path.display().to_string())
                .fact(
                    "problem",
                    format!("the profile {} gives {what}, which has no such piece", self.profile),
                )
                .next("a token has the piece `token`; a certificate has `cert`, `key` and `ca`")),
        }
    }

    /// Writes a token, in place of the one before.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it can't be written; the one before stays.
    pub(super) fn put_token(&self, token: &Secret<String>) -> Result<(), Failure> {
        write(&self.dir.join("token"), token.expose())?;
        self.copies.iter().try_for_each(|kept| kept.put(token.expose()))
    }

    /// Writes a certificate, its key and `anchors`, in place of those before.
    ///
    /// # Errors
    /// As [`Place::put_token`].
    pub(super) fn put_certificate(&self, svid: &Svid, anchors: &str) -> Result<(), Failure> {
        if let Some(set) = &self.set {
            tls_files::put(set, svid, anchors).map_err(|e| unwritten(&self.dir, &e))?;
        }
        for kept in &self.copies {
            match kept.copy.piece.part {
                Part::Cert => kept.put(&svid.chain_pem())?,
                Part::Key => kept.put(svid.key_pem().expose())?,
                Part::Ca => kept.put(anchors)?,
                Part::Token => {}
            }
        }
        Ok(())
    }

    /// The variables that name its files.
    pub(super) fn named(&self) -> Vec<Named> {
        match &self.set {
            None => vec![("MAYFLY_TOKEN_FILE", self.dir.join("token"))],
            Some(_) => vec![
                ("MAYFLY_CERT_FILE", self.dir.join(tls_files::CHAIN)),
                ("MAYFLY_KEY_FILE", self.dir.join(tls_files::KEY)),
                ("MAYFLY_CA_FILE", self.dir.join(tls_files::ANCHORS)),
            ],
        }
    }
}

impl Drop for Place {
    /// The copies lie outside of the private directory, and go with it. What was there before and was never
    /// replaced stays.
    fn drop(&mut self) {
        for kept in self.copies.iter().filter(|kept| kept.written.load(Ordering::Relaxed)) {
            let _ = std::fs::remove_file(&kept.copy.path);
        }
    }
}

/// What the command's environment says of its files: the plain names for the first of each kind, and each with the
/// profile's name behind it.
pub(super) fn variables(base: &PrivateDir, places: &[&Place]) -> Vec<(String, OsString)> {
    let mut all: Vec<(String, OsString)> = vec![(DIR.to_owned(), base.path().into())];
    for place in places {
        for (name, path) in place.named() {
            if !all.iter().any(|(held, _)| held == name) {
                all.push((name.to_owned(), path.clone().into()));
            }
            all.push((format!("{name}_{}", suffix(place.profile())), path.into()));
        }
    }
    all
}

/// A profile's name as the end of a variable's.
fn suffix(profile: &ProfileName) -> String {
    profile.as_str().to_ascii_uppercase().replace(['-', '.'], "_")
}

/// Refuses profiles whose variables would have one name.
///
/// # Errors
/// `INPUT_INVALID`.
pub(super) fn distinct(profiles: &[ProfileName]) -> Result<(), Failure> {
    let mut seen = std::collections::BTreeMap::new();
    for profile in profiles {
        if let Some(other) = seen.insert(suffix(profile), profile) {
            return Err(Failure::of(Reason::InputInvalid)
                .fact("profiles", format!("{other}, {profile}"))
                .fact("problem", "the same profile twice, or names that give the same variable"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mayfly_client::Env;

    use super::*;

    fn profile(name: &str) -> ProfileName {
        ProfileName::parse(name).unwrap()
    }

    #[test]
    fn the_first_of_a_kind_has_the_plain_name() {
        let base = PrivateDir::make(&Env::of([("TMPDIR", "/tmp")])).unwrap();
        let place = |name: &str| Place::new(&base, &profile(name), &[]);
        let (one, two) = (place("a.b-c").for_token().unwrap(), place("web").for_certificate().unwrap());
        let three = place("z").for_token().unwrap();
        one.put_token(&Secret::new("t0ken".to_owned())).unwrap();
        let all = variables(&base, &[&one, &two, &three]);
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "MAYFLY_CREDENTIALS_DIR",
                "MAYFLY_TOKEN_FILE",
                "MAYFLY_TOKEN_FILE_A_B_C",
                "MAYFLY_CERT_FILE",
                "MAYFLY_CERT_FILE_WEB",
                "MAYFLY_KEY_FILE",
                "MAYFLY_KEY_FILE_WEB",
                "MAYFLY_CA_FILE",
                "MAYFLY_CA_FILE_WEB",
                "MAYFLY_TOKEN_FILE_Z",
            ]
        );
        assert_eq!(std::fs::read_to_string(&all[1].1).unwrap(), "t0ken");
    }

    #[test]
    fn one_variable_never_stands_for_two_profiles() {
        distinct(&["a-b", "a-c"].map(profile)).unwrap();
        for same in [["a-b", "a.b"], ["a", "a"]] {
            assert!(distinct(&same.map(profile)).is_err(), "{same:?}");
        }
    }

    #[test]
    fn copies_go_with_their_place_and_a_token_has_one_piece() {
        let base = PrivateDir::make(&Env::of([("TMPDIR", "/tmp")])).unwrap();
        let path = base.path().join("copy");
        let copy = |piece: &str| FileCopy { path: path.clone(), piece: piece.parse().unwrap() };
        let place = Place::new(&base, &profile("p"), &[copy("p.token"), copy("q.cert")]).for_token().unwrap();
        place.put_token(&Secret::new("t0ken".to_owned())).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "t0ken");
        drop(place);
        assert!(!path.exists());
        assert!(Place::new(&base, &profile("r"), &[copy("r.cert")]).for_token().is_err());
        assert!(Place::new(&base, &profile("r"), &[copy("r.token")]).for_certificate().is_err());
    }

    #[test]
    fn a_file_that_was_never_replaced_stays() {
        let base = PrivateDir::make(&Env::of([("TMPDIR", "/tmp")])).unwrap();
        let path = base.path().join("mine");
        std::fs::write(&path, "before").unwrap();
        let copy = |piece: &str| FileCopy { path: path.clone(), piece: piece.parse().unwrap() };
        // Nothing was minted for it; what was minted has no such piece.
        drop(Place::new(&base, &profile("p"), &[copy("p.cert")]));
        assert!(Place::new(&base, &profile("p"), &[copy("p.cert")]).for_token().is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
    }
}
