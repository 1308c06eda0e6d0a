//! Session tickets: what a client got with a proof, good for sibling connections and reconnects without another one.
//!
//! They live in memory, so a restart ends them, and the client proves itself again. A ticket stands for the principal it was
//! given to: whatever ends that principal's sessions ends its tickets.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::auth::Principal;
use crate::env::Random;

/// Tickets kept; beyond it the one that would expire first goes.
const MAX_TICKETS: usize = 16_384;

#[derive(Debug)]
struct Ticket {
    principal: Principal,
    expires_at_us: i64,
}

/// All tickets, by digest.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    by_digest: BTreeMap<[u8; 32], Ticket>,
    by_expiry: BTreeSet<(i64, [u8; 32])>,
}

impl Tickets {
    /// A new ticket for a principal.
    pub(super) fn issue(&mut self, principal: Principal, expires_at_us: i64, random: &dyn Random) -> Bytes {
        let mut secret = [0; 32];
        random.fill(&mut secret);
        let digest: [u8; 32] = Sha256::digest(secret).into();
        self.by_digest.insert(digest, Ticket { principal, expires_at_us });
        self.by_expiry.insert((expires_at_us, digest));
        if MAX_TICKETS < self.by_digest.len()
            && let Some((_, first)) = self.by_expiry.pop_first()
        {
            self.by_digest.remove(&first);
        }
        Bytes::copy_from_slice(&secret)
    }

    /// Whom a ticket stands for and until when. Expired ones are dropped on the way.
    pub(super) fn find(&mut self, secret: &[u8], now_us: i64) -> Option<(Principal, i64)> {
        while let Some((expires_at_us, digest)) = self.by_expiry.first().copied()
            && expires_at_us <= now_us
        {
            self.by_expiry.remove(&(expires_at_us, digest));
            self.by_digest.remove(&digest);
        }
        // A digest is looked up, not the secret: what timing could tell about it leads to no ticket.
        let digest: [u8; 32] = Sha256::digest(secret).into();
        self.by_digest.get(&digest).map(|ticket| (ticket.principal.clone(), ticket.expires_at_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Counting(std::sync::atomic::AtomicU8);

    impl Random for Counting {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn a_ticket_is_good_until_it_expires_and_for_whom_it_was_given_to() {
        let (mut tickets, random) = (Tickets::default(), Counting(0.into()));
        let ann = Principal { name: "ann".into(), ..Principal::insecure_dev() };
        let bob = Principal { name: "bob".into(), ..Principal::insecure_dev() };
        let first = tickets.issue(ann.clone(), 100, &random);
        let second = tickets.issue(bob, 200, &random);
        assert_eq!(tickets.find(&first, 99), Some((ann, 100)));
        assert_eq!(tickets.find(&first, 100), None, "its time is over");
        assert_eq!(tickets.find(&second, 100).map(|(principal, _)| principal.name), Some("bob".into()));
        assert_eq!(tickets.find(b"nobody's", 100), None);
        assert_eq!((tickets.by_digest.len(), tickets.by_expiry.len()), (1, 1), "what expired is forgotten");
    }
}
