//! Reproducible randomness for the crash model: SplitMix64, whose whole state is its seed. Knows nothing of disks.

/// A stream of pseudo-random numbers, the same for the same seed on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; `bound` is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is far below anything a test could notice.
        self.next() % bound
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// True with probability `eighths / 8`.
    pub(super) fn eighths(&mut self, eighths: u64) -> bool {
        self.below(8) < eighths
    }
}
