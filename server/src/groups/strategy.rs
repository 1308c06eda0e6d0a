//! The strategy on the wire and inside.

use levada_protocol::messages;

use super::assign::Strategy;

pub(super) fn from_wire(strategy: messages::Strategy) -> Strategy {
    match strategy {
        messages::Strategy::Sticky => Strategy::Sticky,
        messages::Strategy::Range => Strategy::Range,
        messages::Strategy::RoundRobin => Strategy::RoundRobin,
    }
}

pub(super) fn to_wire(strategy: Strategy) -> messages::Strategy {
    match strategy {
        Strategy::Sticky => messages::Strategy::Sticky,
        Strategy::Range => messages::Strategy::Range,
        Strategy::RoundRobin => messages::Strategy::RoundRobin,
    }
}
