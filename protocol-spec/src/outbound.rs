//! Frames on their way out, as segments for vectored writes. Bodies are never copied, unless they are so small that a
//! segment of their own would cost more.
//!
//! [`Fifo`] keeps one order. [`Fair`] sends control frames and acks first, then bodies of subscriptions and fetches in
//! turn, so that none of them starves the others.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use crate::frame::{FrameError, encode_head};
use crate::messages::Message;

/// Bodies up to this are copied behind their head.
const INLINE_BODY_BYTES: usize = 4 * 1024;
/// What one key may send before it is the next one's turn.
const TURN_BYTES: usize = 256 * 1024;
/// Frames are moved to the ready queue only while it holds less, so that a late ack does not wait behind much.
const READY_BYTES: usize = 256 * 1024;
/// Segments of one write: what the kernel takes at once.
const MOST_SLICES: usize = 64;

/// Segments in one order.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    segments: VecDeque<Bytes>,
    /// Small things not yet a segment.
    tail: BytesMut,
    bytes: usize,
}

impl Fifo {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    pub(crate) fn push<M: Message>(
        &mut self,
        correlation: u32,
        message: &M,
        body: Vec<Bytes>,
        max_control_bytes: usize,
    ) -> Result<(), FrameError> {
        let body_bytes = body.iter().map(Bytes::len).sum();
        let before = self.tail.len();
        encode_head(&mut self.tail, correlation, message, body_bytes, max_control_bytes)?;
        self.bytes += self.tail.len() - before + body_bytes;
        for part in body {
            if part.len() <= INLINE_BODY_BYTES {
                self.tail.extend_from_slice(&part);
            } else {
                self.end_tail();
                self.segments.push_back(part);
            }
        }
        Ok(())
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
    }

    /// Moves everything of `other` behind what is here.
    fn append(&mut self, other: &mut Fifo) {
        other.end_tail();
        self.end_tail();
        self.bytes += std::mem::take(&mut other.bytes);
        self.segments.append(&mut other.segments);
    }

    /// The segments to write next.
    pub(crate) fn slices<'a>(&'a mut self, slices: &mut Vec<IoSlice<'a>>) {
        self.end_tail();
        slices.extend(self.segments.iter().take(MOST_SLICES).map(|segment| IoSlice::new(segment)));
    }

    /// Drops the first `count` bytes: they were written.
    pub(crate) fn on_sent(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(first) = self.segments.front_mut() {
            if count < first.len() {
                drop(first.split_to(count));
                return;
            }
            count -= first.len();
            self.segments.pop_front();
        }
    }
}

/// Whose turn a body is: a subscription or the reply to a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Subscription(u32),
    Reply(u32),
}

/// Control first, then lanes in turn.
#[derive(Debug, Default)]
pub(crate) struct Fair {
    ready: Fifo,
    control: Fifo,
    lanes: BTreeMap<Lane, VecDeque<Fifo>>,
    turns: VecDeque<Lane>,
    /// What the lane at the front has sent in its turn.
    turn_bytes: usize,
    lane_bytes: usize,
}

impl Fair {
    /// Everything not yet written.
    pub(crate) fn bytes(&self) -> usize {
        self.ready.bytes + self.control.bytes + self.lane_bytes
    }

    pub(crate) fn push_control<M: Message>(
        &mut self,
        correlation: u32,
        message: &M,
        max_control_bytes: usize,
    ) -> Result<(), FrameError> {
        self.control.push(correlation, message, Vec::new(), max_control_bytes)
    }

    /// Queues a frame behind those of its lane.
    pub(crate) fn push_lane<M: Message>(
        &mut self,
        lane: Lane,
        correlation: u32,
        message: &M,
        body: Vec<Bytes>,
        max_control_bytes: usize,
    ) -> Result<(), FrameError> {
        let mut frame = Fifo::default();
        frame.push(correlation, message, body, max_control_bytes)?;
        self.lane_bytes += frame.bytes;
        let frames = self.lanes.entry(lane).or_default();
        if frames.is_empty() {
            self.turns.push_back(lane);
        }
        frames.push_back(frame);
        Ok(())
    }

    /// Drops frames of a lane that no byte was written of.
    pub(crate) fn discard(&mut self, lane: Lane) {
        if let Some(frames) = self.lanes.remove(&lane) {
            self.lane_bytes -= frames.iter().map(Fifo::bytes).sum::<usize>();
            if self.turns.front() == Some(&lane) {
                self.turn_bytes = 0;
            }
            self.turns.retain(|turn| *turn != lane);
        }
    }

    pub(crate) fn slices<'a>(&'a mut self, slices: &mut Vec<IoSlice<'a>>) {
        self.refill();
        self.ready.slices(slices);
    }

    pub(crate) fn on_sent(&mut self, count: usize) {
        self.ready.on_sent(count);
    }

    fn refill(&mut self) {
        self.ready.append(&mut self.control);
        while self.ready.bytes < READY_BYTES {
            let Some(lane) = self.turns.front().copied() else { return };
            let frames = self.lanes.get_mut(&lane).expect("a lane with a turn has frames");
            let mut frame = frames.pop_front().expect("a lane with a turn has frames");
            self.lane_bytes -= frame.bytes;
            self.turn_bytes += frame.bytes;
            self.ready.append(&mut frame);
            let empty = frames.is_empty();
            if empty {
                self.lanes.remove(&lane);
            }
            if empty || TURN_BYTES <= self.turn_bytes {
                self.turn_bytes = 0;
                self.turns.pop_front();
                if !empty {
                    self.turns.push_back(lane);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Deliver, Pong};

    const LIMIT: usize = 1024;

    fn deliver(fair: &mut Fair, subscription: u32, body_bytes: usize) {
        let message = Deliver { subscription, log_start_offset: 0, visible_end_offset: 0 };
        let body = Bytes::from(vec![u8::try_from(subscription).unwrap(); body_bytes]);
        fair.push_lane(Lane::Subscription(subscription), 0, &message, vec![body], LIMIT).unwrap();
    }

    fn drain(fair: &mut Fair) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut slices = Vec::new();
            fair.slices(&mut slices);
            let written: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            if written.is_empty() {
                assert_eq!(fair.bytes(), 0);
                return out;
            }
            // As a socket does: not always all of it.
            let sent = written.len().div_ceil(3);
            out.extend_from_slice(&written[..sent]);
            fair.on_sent(sent);
        }
    }

    #[test]
    fn lanes_take_turns_by_bytes() {
        let mut fair = Fair::default();
        for _ in 0..8 {
            deliver(&mut fair, 1, TURN_BYTES / 2);
        }
        deliver(&mut fair, 2, TURN_BYTES / 2);
        let out = drain(&mut fair);
        let second = out.windows(64).position(|window| window == [2; 64]).unwrap();
        assert!(second < 2 * TURN_BYTES, "subscription 2 waited for {second} bytes of subscription 1");
    }

    #[test]
    fn control_overtakes_bodies_that_are_not_being_written() {
        let mut fair = Fair::default();
        for _ in 0..16 {
            deliver(&mut fair, 1, TURN_BYTES);
        }
        let mut slices = Vec::new();
        fair.slices(&mut slices);
        drop(slices);
        fair.on_sent(10);
        let before = fair.bytes();
        fair.push_control(7, &Pong { server_time_us: 0x0123_4567_89ab_cdef }, LIMIT).unwrap();
        let out = drain(&mut fair);
        let pong = 0x0123_4567_89ab_cdef_u64.to_le_bytes();
        let at = out.windows(8).position(|window| window == pong).unwrap();
        assert!(at < 3 * TURN_BYTES && 3 * TURN_BYTES < before, "the reply waited behind {at} bytes");
    }

    #[test]
    fn a_discarded_lane_sends_nothing_more() {
        let mut fair = Fair::default();
        deliver(&mut fair, 1, 100_000);
        deliver(&mut fair, 2, 100_000);
        fair.discard(Lane::Subscription(1));
        let out = drain(&mut fair);
        assert!(!out.windows(64).any(|window| window == [1; 64]));
        assert!(out.windows(64).any(|window| window == [2; 64]));
    }
}
