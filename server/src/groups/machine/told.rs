//! What members are told, in pieces that fit a frame: a member may hold more partitions than one can name.

use std::collections::BTreeMap;

use levada_protocol::limits;
use levada_protocol::messages::{Assignment, GroupChanged};

use super::{Machine, Outcome, Push, Session};
use crate::broker::ConnectionId;

/// Of what is given, and of what is taken, in one frame: both together leave plenty for the rest of it.
const PIECE_BYTES: usize = limits::MAX_CONTROL_BYTES / 4;
/// The numbers of an assignment and the lengths of its names take less.
const ASSIGNMENT_BYTES: usize = 64;

/// What each member is given, and what it is to release.
pub(super) type Changes = BTreeMap<String, (Vec<Assignment>, Vec<Assignment>)>;

/// Assignments by frames; at least one frame.
pub(super) fn pieces(assignments: Vec<Assignment>) -> Vec<Vec<Assignment>> {
    let (mut pieces, mut room) = (vec![Vec::new()], PIECE_BYTES);
    for assignment in assignments {
        let bytes = ASSIGNMENT_BYTES + assignment.stream.len() + assignment.topic.len();
        if room < bytes {
            pieces.push(Vec::new());
            room = PIECE_BYTES;
        }
        room -= bytes;
        pieces.last_mut().expect("there is at least one").push(assignment);
    }
    pieces
}

impl Machine {
    /// Tells the members that have a connection what changes for them.
    pub(super) fn tell(&self, changes: Changes, reason: &str, out: &mut Outcome) {
        for (member, (assigned, revoked)) in changes {
            if let Some(Session::Connected(connection)) = self.sessions.get(&member) {
                let timeout_ms = u32::try_from(self.release_timeout_ms(&member)).unwrap_or(u32::MAX);
                self.tell_one(*connection, &member, (assigned, revoked), timeout_ms, reason, out);
            }
        }
    }

    /// Tells one member.
    pub(super) fn tell_one(
        &self,
        connection: ConnectionId,
        member: &str,
        (assigned, revoked): (Vec<Assignment>, Vec<Assignment>),
        timeout_ms: u32,
        reason: &str,
        out: &mut Outcome,
    ) {
        let (mut assigned, mut revoked) = (pieces(assigned).into_iter(), pieces(revoked).into_iter());
        loop {
            let (given, taken) = (assigned.next(), revoked.next());
            if given.is_none() && taken.is_none() {
                return;
            }
            let (assigned, revoked) = (given.unwrap_or_default(), taken.unwrap_or_default());
            let changed = GroupChanged {
                group: self.name.clone(),
                member: member.to_owned(),
                generation: self.state.generation,
                release_within_ms: if revoked.is_empty() { 0 } else { timeout_ms },
                assigned,
                revoked,
                reason: reason.to_owned(),
            };
            out.pushes.push((connection, Push::Changed(changed)));
        }
    }
}
