//! Stateless nonces: time, random, generation, store identity and a MAC that the brokers share.
//!
//! # Layout (version 1, 61 octets)
//! One octet version; 6 octets milliseconds since the epoch; 10 octets random; 4 octets generation number;
//! 8 octets generation id; 16 octets store identity; 16 octets MAC (HMAC-SHA-256, cut) over all before it.
//! This module only reads and writes the layout; the MAC is made and compared by whoever holds the key.

use crate::codec::{Malformed, Reader, put_u48};
use crate::fence::{Generation, GenerationId};
use crate::time::UnixMillis;

const VERSION: u8 = 1;

/// A nonce's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// When a broker made it.
    pub issued: UnixMillis,
    /// Random octets.
    pub random: [u8; 10],
    /// The generation that it was made in.
    pub generation: Generation,
    /// The identity of the store's server that it was made over.
    pub store: [u8; 16],
    /// The MAC.
    pub mac: [u8; 16],
}

impl Nonce {
    /// The length of the encoding.
    pub const LEN: usize = 61;

    /// The octets that the MAC covers.
    pub fn authenticated(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        out.push(VERSION);
        put_u48(&mut out, self.issued.0);
        out.extend_from_slice(&self.random);
        out.extend_from_slice(&self.generation.number.to_be_bytes());
        out.extend_from_slice(&self.generation.id.0);
        out.extend_from_slice(&self.store);
        out
    }

    /// Writes the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.authenticated();
        out.extend_from_slice(&self.mac);
        out
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] for another length or version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("nonce", bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed("unknown version"));
        }
        let nonce = Self {
            issued: UnixMillis(r.u48()?),
            random: r.array()?,
            generation: Generation { number: r.u32()?, id: GenerationId(r.array()?) },
            store: r.array()?,
            mac: r.array()?,
        };
        r.finish()?;
        Ok(nonce)
    }
}
