//! Which partition a key belongs to: `fmix64(FNV-1a-64(key)) mod partitions`, the same in every client.
//!
//! FNV-1a alone is weak in its low bits; MurmurHash3's finaliser spreads them.

/// The hash of a key.
pub fn hash_key(key: &[u8]) -> u64 {
    let fnv = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut hash = fnv ^ (fnv >> 33);
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The partition of a key among `partition_count`; an empty key is a key like any other. 0 partitions count as one.
pub fn partition_for_key(key: &[u8], partition_count: u32) -> u32 {
    let partition = hash_key(key) % u64::from(partition_count.max(1));
    u32::try_from(partition).expect("less than a u32")
}
