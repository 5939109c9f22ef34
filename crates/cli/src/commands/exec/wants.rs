//! What a command is to be given, as the command line names it: `NAME=PROFILE.token`, `PATH=PROFILE.cert`.

use std::path::PathBuf;
use std::str::FromStr;

use mayfly_domain::{Invalid, ProfileName};

/// One piece of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The access token.
    Token,
    /// The certificate and its intermediates, PEM.
    Cert,
    /// The private key, PKCS#8 as PEM.
    Key,
    /// What verifies other workloads, PEM.
    Ca,
}

/// A part of a profile's credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The profile.
    pub(crate) profile: ProfileName,
    /// The part.
    pub(crate) part: Part,
}

impl FromStr for Piece {
    type Err = Invalid;

    fn from_str(s: &str) -> Result<Self, Invalid> {
        let no =
            || Invalid::new("piece", s, "must be PROFILE.token, PROFILE.cert, PROFILE.key or PROFILE.ca");
        // A profile's name may hold dots.
        let (profile, part) = s.rsplit_once('.').ok_or_else(no)?;
        let part = match part {
            "token" => Part::Token,
            "cert" => Part::Cert,
            "key" => Part::Key,
            "ca" => Part::Ca,
            _ => return Err(no()),
        };
        Ok(Self { profile: ProfileName::parse(profile)?, part })
    }
}

/// A variable that is to hold a token: `NAME=PROFILE.token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The variable's name.
    pub(crate) name: String,
    /// The profile whose token it holds.
    pub(crate) profile: ProfileName,
}

impl FromStr for Variable {
    type Err = Invalid;

    fn from_str(s: &str) -> Result<Self, Invalid> {
        let no = |why| Invalid::new("variable", s, why);
        let (name, piece) = s.split_once('=').ok_or_else(|| no("must be NAME=PROFILE.token"))?;
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() || !letters || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(no("must start with a name of letters, digits and `_`"));
        }
        let piece: Piece = piece.parse()?;
        if piece.part != Part::Token {
            return Err(no("only a token goes into a variable; certificates and keys are files"));
        }
        Ok(Self { name: name.to_owned(), profile: piece.profile })
    }
}

/// A file that is to hold a piece: `PATH=PROFILE.cert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileCopy {
    /// Where.
    pub(crate) path: PathBuf,
    /// What.
    pub(crate) piece: Piece,
}

impl FromStr for FileCopy {
    type Err = Invalid;

    fn from_str(s: &str) -> Result<Self, Invalid> {
        // A path may hold the sign, a piece never does.
        match s.rsplit_once('=') {
            Some((path, piece)) if !path.is_empty() => Ok(Self { path: path.into(), piece: piece.parse()? }),
            _ => Err(Invalid::new("file", s, "must be PATH=PROFILE.cert, .key, .ca or .token")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_named_by_profile_and_part() {
        let copy: FileCopy = "/run/a=b/x.pem=k8s.prod_1.cert".parse().unwrap();
        assert_eq!(copy.path, PathBuf::from("/run/a=b/x.pem"));
        assert_eq!((copy.piece.profile.as_str(), copy.piece.part), ("k8s.prod_1", Part::Cert));
        let variable: Variable = "DEPLOY_TOKEN=payments-deploy.token".parse().unwrap();
        assert_eq!((variable.name.as_str(), variable.profile.as_str()), ("DEPLOY_TOKEN", "payments-deploy"));
        for bad in ["x", "=p.cert", "/x=p", "/x=p.pem", "/x=P.cert", "/x=.cert"] {
            assert!(bad.parse::<FileCopy>().is_err(), "{bad}");
        }
        for bad in ["A=p.key", "1A=p.token", "=p.token", "A-B=p.token", "A"] {
            assert!(bad.parse::<Variable>().is_err(), "{bad}");
        }
    }
}
