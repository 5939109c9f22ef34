//! Keys in a PKCS #11 module: made there, never out of there, found again by their id.
//!
//! A module may go away and come back: sessions are opened anew by themselves, the library is initialised anew
//! where that does not help, and until then signing is refused with `SIGNER_UNAVAILABLE`. Must never ask a module to
//! give a private key out, print the PIN, or try a PIN again that the token has refused: tokens lock themselves.

use std::path::PathBuf;
use std::sync::Arc;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use mayfly_domain::{KeyAlg, PublicKey, Refusal};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::custody::{KeyModule, ModuleKey};
use crate::signer::Signer;

mod token;

use token::{Failed, Open, Token};

/// The object identifier of P-256, in DER (RFC 5480 section 2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Edwards25519 by its name, as PKCS #11 3.0 section 6.3 has it: every module in use knows this form.
const ED25519: &[u8] = b"\x13\x0cedwards25519";
/// What a new key signs once, and a key that is found again.
const PROBE: &[u8] = b"mayfly probe";

/// Which module, which token of it, and what opens that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSettings {
    /// The module: a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// A file with the user's PIN, which only its owner reads.
    pub pin_file: PathBuf,
}

/// A PKCS #11 module.
#[derive(Debug, Clone)]
pub struct Pkcs11Module(Arc<Token>);

impl Pkcs11Module {
    /// A module by its settings. Nothing is loaded before it is needed.
    pub fn new(settings: ModuleSettings) -> Self {
        Self(Arc::new(Token::new(settings)))
    }
}

impl KeyModule for Pkcs11Module {
    fn generate(&self, alg: KeyAlg, label: &str) -> Result<ModuleKey, Refusal> {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| token::unavailable("the system has no randomness"))?;
        self.0.with(|open| {
            let (mechanism, kind, params) = match alg {
                KeyAlg::P256 => (Mechanism::EccKeyPairGen, KeyType::EC, P256),
                KeyAlg::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, KeyType::EC_EDWARDS, ED25519),
            };
            let named = [
                Attribute::Token(true),
                Attribute::Id(id.to_vec()),
                Attribute::Label(label.as_bytes().to_vec()),
                Attribute::KeyType(kind),
            ];
            let public = [Attribute::Verify(true), Attribute::EcParams(params.to_vec())];
            let private = [
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ];
            let (public, private) = open.session.generate_key_pair(
                &mechanism,
                &[&named[..], &public[..]].concat(),
                &[&named[..], &private[..]].concat(),
            )?;
            let public = public_key(open, alg, public)?;
            confined(open, private)?;
            let key = ModuleKey { id, public };
            // A module that keeps another key than it tells would sign what nobody accepts.
            sign(open, &key, PROBE)?;
            Ok(key)
        })
    }

    fn signer(&self, key: &ModuleKey) -> Arc<dyn Signer> {
        let kid = key.public.thumbprint().to_string();
        Arc::new(Pkcs11Signer { token: self.0.clone(), key: key.clone(), kid })
    }
}

/// Signs with a key of a module.
#[derive(Debug)]
struct Pkcs11Signer {
    token: Arc<Token>,
    key: ModuleKey,
    kid: String,
}

impl Signer for Pkcs11Signer {
    fn public_key(&self) -> &PublicKey {
        &self.key.public
    }

    fn kid(&self) -> &str {
        &self.kid
    }

    fn blocks(&self) -> bool {
        true
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.token.with(|open| sign(open, &self.key, message))
    }
}

fn sign(open: &mut Open, key: &ModuleKey, message: &[u8]) -> Result<Vec<u8>, Failed> {
    let handle = match open.keys.get(&key.id) {
        Some(handle) => *handle,
        None => {
            let handle = find(open, &key.id)?;
            // Another key under the same id would sign what nobody accepts.
            let probe = with_handle(open, key.public.alg(), handle, PROBE)?;
            if !key.public.verifies(PROBE, &probe) {
                return Err(Failed::Key("the token's key is another one"));
            }
            open.keys.insert(key.id, handle);
            handle
        }
    };
    with_handle(open, key.public.alg(), handle, message)
}

fn with_handle(open: &Open, alg: KeyAlg, handle: ObjectHandle, message: &[u8]) -> Result<Vec<u8>, Failed> {
    let signature = match alg {
        KeyAlg::P256 => {
            let hash = digest(&SHA256, message);
            open.session.sign(&Mechanism::Ecdsa, handle, hash.as_ref())?
        }
        KeyAlg::Ed25519 => {
            let params = EddsaParams::new(EddsaSignatureScheme::Ed25519);
            open.session.sign(&Mechanism::Eddsa(params), handle, message)?
        }
    };
    if signature.len() == 64 { Ok(signature) } else { Err(Failed::Key("its signature is not of its form")) }
}

fn find(open: &Open, id: &[u8; 16]) -> Result<ObjectHandle, Failed> {
    let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.to_vec())];
    match open.session.find_objects(&wanted)?.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failed::Key("the token has no key of this id")),
        _ => Err(Failed::Key("the token has more than one key of this id")),
    }
}

/// The public key, as the module tells it: a point in an OCTET STRING, or as it is.
fn public_key(open: &Open, alg: KeyAlg, handle: ObjectHandle) -> Result<PublicKey, Failed> {
    let told = open.session.get_attributes(handle, &[AttributeType::EcPoint])?;
    let point = told.into_iter().find_map(|a| match a {
        Attribute::EcPoint(point) => Some(point),
        _ => None,
    });
    let point = point.ok_or(Failed::Key("it does not tell the public key"))?;
    let bare = match point.as_slice() {
        [0x04, length, bare @ ..] if usize::from(*length) == bare.len() => bare,
        bare => bare,
    };
    PublicKey::new(alg, bare).map_err(|_| Failed::Key("it tells no public key of its form"))
}

/// A key that could leave the module is not kept.
fn confined(open: &Open, handle: ObjectHandle) -> Result<(), Failed> {
    let told =
        open.session.get_attributes(handle, &[AttributeType::Sensitive, AttributeType::Extractable])?;
    if told.contains(&Attribute::Sensitive(true)) && told.contains(&Attribute::Extractable(false)) {
        return Ok(());
    }
    Err(Failed::Key("it made a key that may leave it"))
}
