//! The seal: what keeps keys and blocks unreadable where they are stored.
//!
//! AES-256-GCM with a random 96-bit nonce. Must never hand out its key, and never say of a sealed text more
//! than whether it opens.
//!
//! # Layout (version 1)
//! 7 octets `mfseal\x01`; 8 octets key id (which key sealed it; tells nothing of the key); one octet source: 0
//! for a key as given, 1 for a passphrase, then followed by 4 octets memory in KiB, 4 octets passes, 4 octets lanes
//! and 16 octets salt of argon2id; 8 octets content version; 12 octets nonce; ciphertext and tag. Integers are
//! big-endian. Authenticated with it: a domain tag, the purpose with its length, and the whole header.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use mayfly_domain::codec::Reader;
use mayfly_domain::{Secret, SecretBytes};
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const MAGIC: &[u8; 7] = b"mfseal\x01";
const KEY_LEN: usize = 32;
const FILE_OCTETS_MAX: u64 = 4096;
const PASSPHRASE_OCTETS_MIN: usize = 12;
/// The largest text that is opened, in octets.
pub const SEALED_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// Why a seal could not be made, or a text not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key's file can't be read or written.
    #[error("seal key `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than its owner may read the key's file.
    #[error("seal key `{}`: mode {mode:04o} lets others read it; set it to 0400 or 0600", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is not 32 octets, raw or as base64 or hexadecimal text.
    #[error("the seal key must be 32 octets, raw or as base64 or hexadecimal text")]
    KeyForm,
    /// The passphrase is too short.
    #[error("the seal's passphrase must have at least 12 octets")]
    Passphrase,
    /// What should be opened is not of this module's layout.
    #[error("not a sealed text of this version: {0}")]
    Form(&'static str),
    /// Another key sealed it.
    #[error("sealed with another key than the one configured")]
    WrongKey,
    /// The right key, but the text was altered or belongs to another purpose.
    #[error("the sealed text was altered, or is one of another purpose")]
    Altered,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed: {0}")]
    Crypto(&'static str),
}

/// The cost and salt of argon2id, as a sealed text's header carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 16],
}

impl Stretch {
    const MEMORY_KIB: u32 = 64 * 1024;
    const PASSES: u32 = 3;
    // A sealed text is hostile until it opens: what it asks for is bounded.
    const MEMORY_KIB_MAX: u32 = 1024 * 1024;
    const PASSES_MAX: u32 = 16;
    const LANES_MAX: u32 = 8;

    const fn with_salt(salt: [u8; 16]) -> Self {
        Self { memory_kib: Self::MEMORY_KIB, passes: Self::PASSES, lanes: 1, salt }
    }

    fn apply(&self, passphrase: &Secret<String>) -> Result<MasterKey, SealError> {
        let (memory, passes, lanes) = (self.memory_kib, self.passes, self.lanes);
        if memory > Self::MEMORY_KIB_MAX || passes > Self::PASSES_MAX || lanes > Self::LANES_MAX {
            return Err(SealError::Form("it asks for more work than is allowed"));
        }
        let params = Params::new(memory, passes, lanes, Some(KEY_LEN))
            .map_err(|_| SealError::Form("the passphrase's parameters are out of range"))?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose().as_bytes(), &self.salt, key.as_mut())
            .map_err(|_| SealError::Crypto("argon2id"))?;
        Ok(MasterKey::new(&key))
    }
}

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// A key of full strength, as the pseudo-random key of an HKDF: every use has a label of its own.
#[derive(Clone)]
struct MasterKey(Prk);

impl MasterKey {
    fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(Salt::new(HKDF_SHA256, b"mayfly seal v1").extract(key))
    }

    fn expand<const N: usize>(&self, use_: &[u8], label: &[u8]) -> Result<Zeroizing<[u8; N]>, SealError> {
        let mut out = Zeroizing::new([0; N]);
        self.0
            .expand(&[use_, b"\0", label], Octets(N))
            .and_then(|okm| okm.fill(out.as_mut()))
            .map_err(|_| SealError::Crypto("hkdf"))?;
        Ok(out)
    }

    fn id(&self) -> Result<[u8; 8], SealError> {
        Ok(*self.expand::<8>(b"id", b"")?)
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        let key = self.expand::<KEY_LEN>(b"aes-256-gcm", b"")?;
        let key =
            UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| SealError::Crypto("aes-256-gcm"))?;
        Ok(LessSafeKey::new(key))
    }
}

enum Source {
    Key(MasterKey),
    Passphrase {
        passphrase: Secret<String>,
        // Stretching takes a tenth of a second on purpose: the last result is kept, and sealing reuses it.
        last: Mutex<Option<(Stretch, MasterKey)>>,
    },
}

/// A seal: seals and opens texts, and derives keys from the same secret.
pub struct Seal {
    source: Source,
    rng: SystemRandom,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.source {
            Source::Key(_) => "Seal(key)",
            Source::Passphrase { .. } => "Seal(passphrase)",
        })
    }
}

impl Seal {
    fn from_key(key: &[u8; KEY_LEN]) -> Self {
        Self { source: Source::Key(MasterKey::new(key)), rng: SystemRandom::new() }
    }

    /// Reads the key from a file: 32 octets, raw or as base64 or hexadecimal text.
    ///
    /// # Errors
    /// [`SealError`] where the file can't be read, where its group or others have any right to it, or where it
    /// holds something else.
    pub fn from_file(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        // The open file is asked, not the path: nobody can swap it in between.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SealError::Permissions { path: path.to_owned(), mode });
        }
        let mut content = Zeroizing::new(Vec::with_capacity(256));
        file.take(FILE_OCTETS_MAX).read_to_end(&mut content).map_err(failed)?;
        if let Ok(raw) = <&[u8; KEY_LEN]>::try_from(content.as_slice()) {
            return Ok(Self::from_key(raw));
        }
        std::str::from_utf8(&content).map_err(|_| SealError::KeyForm).and_then(Self::from_text)
    }

    /// Takes the key from an environment variable's value: base64 or hexadecimal text of 32 octets.
    ///
    /// # Errors
    /// [`SealError::KeyForm`] for anything else.
    pub fn from_env_value(value: &Secret<String>) -> Result<Self, SealError> {
        Self::from_text(value.expose())
    }

    fn from_text(text: &str) -> Result<Self, SealError> {
        let text = text.trim();
        let mut key = Zeroizing::new(Vec::with_capacity(KEY_LEN + 3));
        if text.len() == 2 * KEY_LEN && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            for pair in text.as_bytes().chunks_exact(2) {
                let octet = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok());
                key.push(octet.ok_or(SealError::KeyForm)?);
            }
        } else {
            let bare = text.trim_end_matches('=');
            let decoded = STANDARD_NO_PAD.decode(bare).or_else(|_| URL_SAFE_NO_PAD.decode(bare));
            key = Zeroizing::new(decoded.map_err(|_| SealError::KeyForm)?);
        }
        <&[u8; KEY_LEN]>::try_from(key.as_slice()).map(Self::from_key).map_err(|_| SealError::KeyForm)
    }

    /// Makes the key from a passphrase by argon2id (64 MiB, 3 passes); the salt is made for each seal and stands
    /// in the header of what it seals.
    ///
    /// # Errors
    /// [`SealError::Passphrase`] where it is shorter than 12 octets.
    pub fn from_passphrase(passphrase: Secret<String>) -> Result<Self, SealError> {
        if passphrase.expose().len() < PASSPHRASE_OCTETS_MIN {
            return Err(SealError::Passphrase);
        }
        Ok(Self {
            source: Source::Passphrase { passphrase, last: Mutex::new(None) },
            rng: SystemRandom::new(),
        })
    }

    /// Writes a new random key as base64 text into a new file of mode 0600, durably.
    ///
    /// # Errors
    /// [`SealError::File`] where the file exists or can't be written.
    pub fn generate_file(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: path.to_owned(), source };
        let mut key = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new().fill(key.as_mut()).map_err(|_| SealError::Crypto("random"))?;
        let mut text = Zeroizing::new(STANDARD.encode(key.as_ref()));
        text.push('\n');
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self::from_key(&key))
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], SealError> {
        let mut out = [0; N];
        self.rng.fill(&mut out).map_err(|_| SealError::Crypto("random"))?;
        Ok(out)
    }

    /// Seals `content` of `purpose` and `version` (raised by each change of what is kept under the purpose).
    ///
    /// # Errors
    /// [`SealError::Crypto`] where the library fails.
    pub fn seal(&self, purpose: &str, version: u64, content: &SecretBytes) -> Result<Vec<u8>, SealError> {
        let (stretch, key) = match &self.source {
            Source::Key(key) => (None, key.clone()),
            Source::Passphrase { passphrase, last } => {
                let mut last = last.lock();
                let (stretch, key) = match last.take() {
                    Some(known) => known,
                    None => {
                        let stretch = Stretch::with_salt(self.random()?);
                        (stretch, stretch.apply(passphrase)?)
                    }
                };
                *last = Some((stretch, key.clone()));
                (Some(stretch), key)
            }
        };
        let nonce: [u8; NONCE_LEN] = self.random()?;
        let mut out = Vec::with_capacity(64 + content.expose().len() + 16);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&key.id()?);
        match stretch {
            None => out.push(0),
            Some(s) => {
                out.push(1);
                for n in [s.memory_kib, s.passes, s.lanes] {
                    out.extend_from_slice(&n.to_be_bytes());
                }
                out.extend_from_slice(&s.salt);
            }
        }
        out.extend_from_slice(&version.to_be_bytes());
        let aad = authenticated(purpose, &out);
        let mut text = Zeroizing::new(content.expose().clone());
        let tag = key
            .cipher()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text)
            .map_err(|_| SealError::Crypto("aes-256-gcm"))?;
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&text);
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Opens what [`seal`](Self::seal) made for `purpose`, with its version.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] where another key sealed it, [`SealError::Altered`] where the key is right and the
    /// text or the purpose is not, [`SealError::Form`] where it is no sealed text.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<(u64, SecretBytes), SealError> {
        if sealed.len() > SEALED_OCTETS_MAX {
            return Err(SealError::Form("it is too large"));
        }
        let short = |_| SealError::Form("it is too short");
        let mut r = Reader::new("sealed text", sealed);
        if r.array::<7>().map_err(short)? != *MAGIC {
            return Err(SealError::Form("it does not begin as one"));
        }
        let id: [u8; 8] = r.array().map_err(short)?;
        let (stretch, header_len) = match r.u8().map_err(short)? {
            0 => (None, 7 + 8 + 1 + 8),
            1 => {
                let stretch = Stretch {
                    memory_kib: r.u32().map_err(short)?,
                    passes: r.u32().map_err(short)?,
                    lanes: r.u32().map_err(short)?,
                    salt: r.array().map_err(short)?,
                };
                (Some(stretch), 7 + 8 + 1 + 28 + 8)
            }
            _ => return Err(SealError::Form("its key has an unknown source")),
        };
        let version = r.u64().map_err(short)?;
        let nonce: [u8; NONCE_LEN] = r.array().map_err(short)?;
        let key = match (&self.source, stretch) {
            (Source::Key(key), None) => key.clone(),
            (Source::Passphrase { passphrase, last }, Some(stretch)) => {
                let known = last.lock().as_ref().filter(|(s, _)| *s == stretch).map(|(_, key)| key.clone());
                match known {
                    Some(key) => key,
                    None => stretch.apply(passphrase)?,
                }
            }
            _ => return Err(SealError::WrongKey),
        };
        if !bool::from(key.id()?.ct_eq(&id)) {
            return Err(SealError::WrongKey);
        }
        if let (Source::Passphrase { last, .. }, Some(stretch)) = (&self.source, stretch) {
            *last.lock() = Some((stretch, key.clone()));
        }
        let aad = authenticated(purpose, sealed.get(..header_len).unwrap_or_default());
        let mut text = Zeroizing::new(r.rest().to_vec());
        let opened = key
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text)
            .map_err(|_| SealError::Altered)?;
        Ok((version, Secret::new(opened.to_vec())))
    }

    /// A key of 32 octets for another use, the same for everyone who holds this secret.
    ///
    /// # Errors
    /// [`SealError::Crypto`] where the library fails.
    pub fn derive(&self, label: &str) -> Result<SecretBytes, SealError> {
        let master = match &self.source {
            Source::Key(key) => key.clone(),
            // The salt is fixed, so that two processes that know the passphrase agree without a sealed text in
            // common. What is derived is never stored, so there is nothing to compute ahead for.
            Source::Passphrase { passphrase, .. } => {
                Stretch::with_salt(*b"mayfly derive v1").apply(passphrase)?
            }
        };
        Ok(Secret::new(master.expand::<KEY_LEN>(b"derive", label.as_bytes())?.to_vec()))
    }
}

fn authenticated(purpose: &str, header: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + purpose.len() + header.len());
    out.extend_from_slice(b"mayfly sealed v1\0");
    out.extend_from_slice(&u32::try_from(purpose.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(purpose.as_bytes());
    out.extend_from_slice(header);
    out
}

#[cfg(test)]
mod tests;
