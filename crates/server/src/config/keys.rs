//! `[keys]`: what opens the sealed keys, and the module that keeps others.

use std::path::PathBuf;

use mayfly_domain::Invalid;
use mayfly_mint::KeyUse;

use super::kinds::{choice, path, some, text, word};
use super::reader::Reader;

/// The longest label of a token, in octets (PKCS #11, `CK_TOKEN_INFO`).
const LABEL_OCTETS_MAX: usize = 32;

/// Where the key that opens the sealed ones is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// A file of 32 octets, as they are or as base64.
    File(PathBuf),
    /// A variable of the environment with base64 of 32 octets.
    Environment(String),
    /// A file with a passphrase, stretched by argon2.
    PassphraseFile(PathBuf),
}

/// `[keys.pkcs11]`: a module in which new keys are made and stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The file with the user's PIN.
    pub pin_file: PathBuf,
    /// What the keys are for that are made there.
    pub uses: Vec<KeyUse>,
}

/// Reads the table: the seal, and the module where there is one.
pub(super) fn keys(root: &Reader<'_>) -> (Option<Seal>, Option<Module>) {
    let r = root.table("keys");
    let all = [
        r.optional("seal_file", path).map(Seal::File),
        r.optional("seal_env", word(variable_name)).map(Seal::Environment),
        r.optional("passphrase_file", path).map(Seal::PassphraseFile),
    ];
    let given = ["seal_file", "seal_env", "passphrase_file"].iter().filter(|key| r.has(key)).count();
    let module = if r.has("pkcs11") { module(r.table("pkcs11")) } else { None };
    r.finish();
    if given != 1 {
        root.wrong("keys", "give exactly one of `seal_file`, `seal_env` and `passphrase_file`");
        return (None, module);
    }
    (all.into_iter().flatten().next(), module)
}

fn module(r: Reader<'_>) -> Option<Module> {
    const USES: &[(&str, KeyUse)] = &[
        (KeyUse::WorkloadCa.as_str(), KeyUse::WorkloadCa),
        (KeyUse::SystemCa.as_str(), KeyUse::SystemCa),
        (KeyUse::Token.as_str(), KeyUse::Token),
    ];
    let library = r.required("module", path);
    let token = r.required("token", text(LABEL_OCTETS_MAX));
    let pin_file = r.required("pin_file", path);
    let uses = r.optional("uses", some(USES.len(), choice(USES))).unwrap_or_else(|| KeyUse::ALL.to_vec());
    r.finish();
    Some(Module { module: library?, token: token?, pin_file: pin_file?, uses })
}

fn variable_name(input: &str) -> Result<String, Invalid> {
    let good = input
        .bytes()
        .enumerate()
        .all(|(n, b)| b == b'_' || b.is_ascii_alphabetic() || n > 0 && b.is_ascii_digit());
    if input.is_empty() || input.len() > 128 || !good {
        return Err(Invalid::new("variable", input, "must be the name of an environment variable"));
    }
    Ok(input.to_owned())
}
