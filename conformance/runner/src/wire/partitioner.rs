//! Which partition a key belongs to (section 4.6).

/// Hash of a key.
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    let fnv = key
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3));
    let mut hash = fnv;
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ hash >> 33
}

/// Partition of a key among so many.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn partition_of_key(key: &[u8], partition_count: u32) -> u32 {
    u32::try_from(key_hash(key) % u64::from(partition_count)).expect("less than a u32")
}
