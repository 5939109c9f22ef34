//! Writes what scripts read with `struct.unpack`: big-endian, without gaps.

use mayfly_domain::UnixMillis;

/// Scripts count in doubles, which are exact below this; a later time is as far away as any.
const TIME_MAX: u64 = (1 << 53) - 1;

/// Octets for a script.
#[derive(Debug, Default)]
pub(super) struct Pack(Vec<u8>);

impl Pack {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn flag(self, value: bool) -> Self {
        self.u8(u8::from(value))
    }

    pub(super) fn u16(mut self, value: usize) -> Self {
        self.0.extend_from_slice(&u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u48(mut self, value: u64) -> Self {
        mayfly_domain::codec::put_u48(&mut self.0, value);
        self
    }

    /// A number of milliseconds or a version.
    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.min(TIME_MAX).to_be_bytes());
        self
    }

    pub(super) fn time(self, value: UnixMillis) -> Self {
        self.u64(value.0)
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}
