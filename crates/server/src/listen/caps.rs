//! How many connections there may be, in all and from one address; counted before TLS.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::network;

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// There are as many as there may be.
    Full,
    /// Its address has as many as it may have.
    AddressFull,
}

#[derive(Debug)]
pub(super) struct Caps {
    total: u32,
    per_address: u32,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// One connection's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    open: Arc<Mutex<Open>>,
}

impl Caps {
    pub(super) fn new(total: u32, per_address: u32) -> Self {
        Self { total, per_address, open: Arc::default() }
    }

    pub(super) fn admit(&self, address: IpAddr) -> Result<Place, Denied> {
        let address = network(address);
        let mut open = self.open.lock();
        if open.total >= self.total {
            return Err(Denied::Full);
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= self.per_address {
            return Err(Denied::AddressFull);
        }
        *of_address += 1;
        open.total += 1;
        Ok(Place { address, open: self.open.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let caps = Caps::new(3, 2);
        let at = |text: &str| caps.admit(text.parse().unwrap());
        let a = at("192.0.2.1").unwrap();
        let _b = at("::ffff:192.0.2.1").unwrap();
        assert_eq!(at("192.0.2.1").unwrap_err(), Denied::AddressFull);
        let _c = at("192.0.2.2").unwrap();
        assert_eq!(at("192.0.2.3").unwrap_err(), Denied::Full);
        drop(a);
        drop(at("192.0.2.1").unwrap());
        drop(at("192.0.2.4").unwrap());
        assert_eq!(caps.open.lock().by_address.len(), 2);
    }

    #[test]
    fn one_ipv6_network_has_the_connections_of_one_address() {
        let caps = Caps::new(9, 1);
        let at = |text: &str| caps.admit(text.parse().unwrap());
        let _a = at("2001:db8::1").unwrap();
        assert_eq!(at("2001:db8::ffff:1").unwrap_err(), Denied::AddressFull);
        let _b = at("2001:db8:0:1::1").unwrap();
    }
}
