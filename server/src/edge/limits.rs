//! How many connections there may be: in all, from one address, and without a name. Counted for the whole server; looked
//! at when a connection comes and goes, never in between.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::edge::quota::Meters;

/// Limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: u32,
    /// From one address.
    pub per_peer: u32,
    /// That have not authenticated yet.
    pub unauthenticated: u32,
}

impl ConnectionLimits {
    /// What follows from the limit of all: a quarter may be strangers; one address may take most of it off loopback, all
    /// of it on loopback, where every client has the same address.
    #[must_use]
    pub fn of(total: u32) -> Self {
        Self { total, per_peer: total - total / 8, unauthenticated: (total / 4).max(16) }
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// In all.
    #[error("too many connections in all")]
    Total,
    /// From that address.
    #[error("too many connections from one address")]
    Peer,
    /// Without authentication.
    #[error("too many connections that have not authenticated")]
    Unauthenticated,
}

/// The count of connections of a server. Shared by all cores.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
    meters: Arc<Meters>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    unauthenticated: u32,
    by_peer: BTreeMap<IpAddr, u32>,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default(), meters: Arc::default() })
    }

    /// What each user takes.
    #[must_use]
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.counts().total
    }

    /// Counts a new connection in.
    ///
    /// # Errors
    /// The limit that forbids it.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admitted, Refused> {
        let mut counts = self.counts();
        let from_peer = counts.by_peer.get(&peer).copied().unwrap_or(0);
        if self.limits.total <= counts.total {
            return Err(Refused::Total);
        }
        if self.limits.unauthenticated <= counts.unauthenticated {
            return Err(Refused::Unauthenticated);
        }
        if self.limits.per_peer <= from_peer && !peer.is_loopback() {
            return Err(Refused::Peer);
        }
        counts.total += 1;
        counts.unauthenticated += 1;
        counts.by_peer.insert(peer, from_peer + 1);
        drop(counts);
        Ok(Admitted { connections: Arc::clone(self), peer, is_known: false })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        // Every critical section leaves the counts consistent, so a panic elsewhere changes nothing.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is counted; dropped, it no longer is.
#[derive(Debug)]
pub struct Admitted {
    connections: Arc<Connections>,
    peer: IpAddr,
    is_known: bool,
}

impl Admitted {
    /// The connection has authenticated.
    pub fn authenticated(&mut self) {
        if !std::mem::replace(&mut self.is_known, true) {
            self.connections.counts().unauthenticated -= 1;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.total -= 1;
        if !self.is_known {
            counts.unauthenticated -= 1;
        }
        if let Some(from_peer) = counts.by_peer.get_mut(&self.peer) {
            *from_peer -= 1;
            if *from_peer == 0 {
                counts.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_refuses_by_itself_and_room_comes_back() {
        let connections = Connections::new(ConnectionLimits { total: 4, per_peer: 2, unauthenticated: 2 });
        let (near, far): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut first = connections.admit(near).unwrap();
        let mut second = connections.admit(near).unwrap();
        assert_eq!(connections.admit(far).unwrap_err(), Refused::Unauthenticated);
        first.authenticated();
        second.authenticated();
        second.authenticated();
        assert_eq!(connections.admit(near).unwrap_err(), Refused::Peer);
        let _third = connections.admit(far).unwrap();
        let fourth = connections.admit(far).unwrap();
        assert_eq!(connections.admit(far).unwrap_err(), Refused::Total);
        drop((first, fourth));
        assert_eq!(connections.count(), 2);
        assert!(connections.admit(near).is_ok());
    }
}
