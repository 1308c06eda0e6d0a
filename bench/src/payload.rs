//! Payload bytes: letters and digits from a seed, so that a codec finds something to do but not everything. Payloads are
//! slices of one pool and are made before the clock starts.

use bytes::Bytes;

/// Bytes that payloads are cut from, at most. More than a processor's cache, so that copies cost what they do in life.
const POOL_BYTES: usize = 64 << 20;

const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _";

/// Batches of payloads that are sent over and over.
#[derive(Debug)]
pub(crate) struct Payloads {
    batches: Vec<Vec<Bytes>>,
}

impl Payloads {
    /// Batches of `batch_messages` payloads of `payload_bytes` each.
    pub(crate) fn new(seed: u64, batch_messages: u64, payload_bytes: usize) -> Self {
        let batch_messages = usize::try_from(batch_messages.max(1)).expect("a batch fits memory");
        let batch_bytes = (batch_messages * payload_bytes).max(1);
        let batch_count = (POOL_BYTES / batch_bytes).clamp(1, 16);
        let mut random = SplitMix64(seed);
        let batches = (0..batch_count)
            .map(|_| {
                let bytes = Bytes::from(letters(&mut random, batch_messages * payload_bytes));
                (0..batch_messages).map(|i| bytes.slice(i * payload_bytes..(i + 1) * payload_bytes)).collect()
            })
            .collect();
        Self { batches }
    }

    /// The payloads of batch number `index`, the first `count` of them.
    pub(crate) fn batch(&self, index: u64, count: u64) -> &[Bytes] {
        let batch = &self.batches[usize::try_from(index % self.batches.len() as u64).expect("below a usize")];
        &batch[..usize::try_from(count).map_or(batch.len(), |count| count.min(batch.len()))]
    }
}

fn letters(random: &mut SplitMix64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 10);
    while out.len() < len {
        let mut bits = random.next();
        for _ in 0..10 {
            out.push(LETTERS[(bits & 63) as usize]);
            bits >>= 6;
        }
    }
    out.truncate(len);
    out
}

/// SplitMix64 (Steele, Lea, Flood): small, and the same everywhere.
#[derive(Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_come_from_the_seed() {
        let payloads = Payloads::new(1, 3, 17);
        assert_eq!(payloads.batch(0, 3).len(), 3);
        assert_eq!(payloads.batch(5, 2).len(), 2);
        assert!(payloads.batch(0, 3).iter().all(|p| p.len() == 17));
        assert_eq!(payloads.batch(1, 3), Payloads::new(1, 3, 17).batch(1, 3));
        assert_ne!(payloads.batch(0, 3), Payloads::new(2, 3, 17).batch(0, 3));
        assert_ne!(payloads.batch(0, 3)[0], payloads.batch(0, 3)[1]);
        assert!(Payloads::new(1, 2, 0).batch(0, 2).iter().all(Bytes::is_empty));
    }

    #[test]
    fn the_generator_is_splitmix64() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }
}
