//! The issuing authorities of a set: prepare, activate, retire, revoke, and a company's certificates for them.

use std::collections::BTreeMap;

use mayfly_domain::UnixMillis;
use rustls_pki_types::CertificateDer;

use super::{KeySet, KeySetError, KeyState, Live};
use crate::authority::{Authority, AuthorityError, AuthorityInfo, Unfit, import};
use crate::custody::Custody;
use crate::issuing::Role;

/// How many leases there are whose newest certificate an authority issued, and when the last of them ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveLeases {
    /// How many.
    pub count: u64,
    /// When the last ends.
    pub last_ends: UnixMillis,
}

impl KeySet {
    /// The most authorities of a role.
    pub const MAX_AUTHORITIES: usize = 8;

    /// What may be known of the authorities, oldest first in each role.
    pub fn authorities(&self) -> impl ExactSizeIterator<Item = AuthorityInfo> {
        self.authorities.iter().map(Authority::info)
    }

    /// Adds a prepared authority: its anchor is published, so that everybody trusts it before it issues.
    ///
    /// # Errors
    /// [`KeySetError::AlreadyPrepared`], [`KeySetError::TooManyAuthorities`], the module's refusal.
    pub fn prepare_authority(
        &self,
        role: Role,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        if let Some(authority) = self.authority_in(role, KeyState::Prepared) {
            return Err(KeySetError::AlreadyPrepared(authority.id.clone()));
        }
        if self.authorities.iter().filter(|a| a.role == role).count() >= Self::MAX_AUTHORITIES {
            return Err(KeySetError::TooManyAuthorities(role));
        }
        let mut next = self.next();
        next.authorities.push(self.new_authority(role, KeyState::Prepared, custody, now)?);
        Ok(next)
    }

    /// Makes the prepared authority of a role the active one; the old one retires.
    ///
    /// # Errors
    /// [`KeySetError::NothingPrepared`].
    pub fn activate_authority(&self, role: Role, now: UnixMillis) -> Result<Self, KeySetError> {
        if self.authority_in(role, KeyState::Prepared).is_none() {
            return Err(KeySetError::NothingPrepared);
        }
        let mut next = self.next();
        for authority in next.authorities.iter_mut().filter(|a| a.role == role) {
            if let Some(state) = authority.state.activated() {
                (authority.state, authority.since) = (state, now);
            }
        }
        Ok(next)
    }

    /// Removes authorities: the one of this id, which must not be active, or every retiring one of the role. With
    /// [`Live::Spare`] only those that `leases` says have no live lease any more.
    ///
    /// # Errors
    /// [`KeySetError::NoSuchKey`], [`KeySetError::Active`], [`KeySetError::NothingRetiring`],
    /// [`KeySetError::StillInUse`] where all must wait.
    pub fn retire_authorities(
        &self,
        role: Role,
        id: Option<&str>,
        leases: &BTreeMap<String, LiveLeases>,
        live: Live,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        let mine = |a: &&Authority| match id {
            Some(id) => a.role == role && a.id == id,
            None => a.role == role && a.state == KeyState::Retiring,
        };
        let asked: Vec<&Authority> = self.authorities.iter().filter(mine).collect();
        match (asked.first(), id) {
            (None, None) => return Err(KeySetError::NothingRetiring),
            (None, Some(id)) => return Err(KeySetError::NoSuchKey(id.to_owned())),
            (Some(a), _) if a.state == KeyState::Active => return Err(KeySetError::Active(a.id.clone())),
            _ => {}
        }
        let count = |a: &Authority| leases.get(&a.id).copied().unwrap_or_default();
        let goes = |a: &Authority| live == Live::Refuse || count(a).count == 0;
        let gone: Vec<&str> = asked.iter().filter(|a| goes(a)).map(|a| a.id.as_str()).collect();
        if gone.is_empty() {
            let soonest = asked.iter().min_by_key(|a| count(a).last_ends);
            let soonest = soonest.ok_or(KeySetError::NothingRetiring)?;
            let used = count(soonest);
            return Err(KeySetError::StillInUse {
                id: soonest.id.clone(),
                wait_s: used.last_ends.0.saturating_sub(now.0).div_ceil(1_000),
                leases: Some(used.count),
            });
        }
        let mut next = self.next();
        next.authorities.retain(|a| !gone.contains(&a.id.as_str()));
        Ok(next)
    }

    /// Withdraws an authority at once, whatever its state: everything that it issued is refused from then on. The
    /// active one is replaced in the same step by the prepared one, or by a new one below our root.
    ///
    /// # Errors
    /// [`KeySetError::NoSuchKey`], the module's refusal.
    pub fn revoke_authority(
        &self,
        id: &str,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        let Some(revoked) = self.authorities.iter().find(|a| a.id == id) else {
            return Err(KeySetError::NoSuchKey(id.to_owned()));
        };
        let role = revoked.role;
        let mut next = self.next();
        next.authorities.retain(|a| a.id != id);
        if revoked.state == KeyState::Active {
            let prepared =
                next.authorities.iter_mut().find(|a| a.role == role && a.state == KeyState::Prepared);
            match prepared {
                Some(prepared) => (prepared.state, prepared.since) = (KeyState::Active, now),
                None => {
                    let new = self.new_authority(role, KeyState::Active, custody, now)?;
                    next.authorities.push(new);
                }
            }
        }
        Ok(next)
    }

    /// A request (PKCS #10) for a company's CA to certify the prepared authority of a role, else the active one:
    /// the authority's id and the request as PEM.
    ///
    /// # Errors
    /// [`KeySetError::Authority`] where its key can't sign.
    pub fn csr(&self, role: Role, custody: &Custody) -> Result<(String, String), KeySetError> {
        let authority = self
            .authority_in(role, KeyState::Prepared)
            .or_else(|| self.authority_in(role, KeyState::Active))
            .ok_or(KeySetError::NothingPrepared)?;
        Ok((authority.id.clone(), authority.csr(&self.trust_domain, custody)?))
    }

    /// Puts a company's certificate for one of our authorities in place: that, its parents, the company's root
    /// last. Returns the authority's id too.
    ///
    /// # Errors
    /// [`KeySetError::Authority`] with [`Unfit`], which says what is wrong with it.
    pub fn import(
        &self,
        role: Role,
        chain: &[CertificateDer<'static>],
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<(Self, String), KeySetError> {
        let key = import::subject_key(chain).map_err(AuthorityError::from)?;
        let mut next = self.next();
        for authority in next.authorities.iter_mut().filter(|a| a.role == role) {
            let signs = authority.state != KeyState::Retiring;
            if !signs || authority.key.public(authority.alg)?.as_bytes() != key {
                continue;
            }
            *authority = authority.under(chain, &self.trust_domain, &self.root, custody, now)?;
            let id = authority.id.clone();
            return Ok((next, id));
        }
        Err(AuthorityError::from(Unfit::KeyNotOurs(role)).into())
    }

    pub(super) fn new_authority(
        &self,
        role: Role,
        state: KeyState,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Authority, KeySetError> {
        Authority::new(&self.trust_domain, role, state, &self.root, custody, now)
    }

    fn authority_in(&self, role: Role, state: KeyState) -> Option<&Authority> {
        self.authorities.iter().find(|a| a.role == role && a.state == state)
    }
}
