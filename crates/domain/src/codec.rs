//! Bounded reading and writing of the big-endian layouts that the protocol signs or stores.

/// Why octets could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// The layout.
    pub what: &'static str,
    /// What is wrong.
    pub why: &'static str,
}

/// A cursor over octets that never reads past their end.
#[derive(Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `what` from `bytes`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// An error of this layout.
    pub fn malformed(&self, why: &'static str) -> Malformed {
        Malformed { what: self.what, why }
    }

    /// The next `n` octets.
    ///
    /// # Errors
    /// [`Malformed`] where fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or_else(|| self.malformed("too short"))?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` octets as an array.
    ///
    /// # Errors
    /// [`Malformed`] where fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk().ok_or_else(|| self.malformed("too short"))?;
        self.rest = tail;
        Ok(*head)
    }

    /// The next octet.
    ///
    /// # Errors
    /// [`Malformed`] where none is left.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// The next octet as a truth value: 0 or 1 and nothing else.
    ///
    /// # Errors
    /// [`Malformed`] for another octet, or where none is left.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("neither yes nor no")),
        }
    }

    /// The next two octets as a number.
    ///
    /// # Errors
    /// [`Malformed`] where fewer are left.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// The next four octets as a number.
    ///
    /// # Errors
    /// [`Malformed`] where fewer are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The next six octets as a number.
    ///
    /// # Errors
    /// [`Malformed`] where fewer are left.
    pub fn u48(&mut self) -> Result<u64, Malformed> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The next eight octets as a number.
    ///
    /// # Errors
    /// [`Malformed`] where fewer are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Demands that nothing is left.
    ///
    /// # Errors
    /// [`Malformed`] where octets follow.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("octets after the end")) }
    }
}

/// Appends the low six octets of `value`.
pub fn put_u48(out: &mut Vec<u8>, value: u64) {
    let [_, _, rest @ ..] = value.to_be_bytes();
    out.extend_from_slice(&rest);
}
