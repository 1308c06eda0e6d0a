package wire

// ValidName tells whether s can name a stream, topic, user or token (section 5).
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 255 || s[0] == '.' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// KeyHash is the hash of a message's key (section 4.6).
func KeyHash(key []byte) uint64 {
	h := uint64(0xCBF29CE484222325)
	for _, b := range key {
		h = (h ^ uint64(b)) * 0x100000001B3
	}
	h ^= h >> 33
	h *= 0xFF51AFD7ED558CCD
	h ^= h >> 33
	h *= 0xC4CEB9FE1A85EC53
	return h ^ h>>33
}

// KeyPartition is the partition of a key among count partitions.
func KeyPartition(key []byte, count uint32) uint32 {
	return uint32(KeyHash(key) % uint64(count))
}
