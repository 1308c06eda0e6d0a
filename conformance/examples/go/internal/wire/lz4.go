package wire

import "encoding/binary"

// The LZ4 block format: sequences of a token (literal length in its upper four bits, match length less four in the lower),
// more length bytes where a nibble is 15, literals, a little-endian offset of two bytes, more match length bytes. The last
// sequence has literals only.

const (
	lz4MinMatch     = 4
	lz4LastLiterals = 5  // the last bytes of a block are literals
	lz4MatchMargin  = 12 // no match begins within that many bytes of the end
	lz4HashBits     = 14
)

// lz4Decode expands one block into exactly size bytes. The caller has checked that size is sane for len(src).
func lz4Decode(src []byte, size int) ([]byte, error) {
	dst := make([]byte, 0, size)
	at := 0
	more := func(length int) (int, bool) { // length goes on in bytes while they are 255
		if length != 15 {
			return length, true
		}
		for {
			if at >= len(src) || length > size {
				return 0, false
			}
			b := src[at]
			at++
			length += int(b)
			if b != 255 {
				return length, true
			}
		}
	}
	for at < len(src) {
		token := src[at]
		at++
		literals, ok := more(int(token >> 4))
		if !ok || literals > len(src)-at || literals > size-len(dst) {
			return nil, malformed("lz4: literals run over the end")
		}
		dst = append(dst, src[at:at+literals]...)
		at += literals
		if at == len(src) {
			if len(dst) != size {
				return nil, malformed("lz4: a block of %d bytes instead of %d", len(dst), size)
			}
			return dst, nil
		}
		if len(src)-at < 2 {
			return nil, malformed("lz4: an offset is cut off")
		}
		offset := int(binary.LittleEndian.Uint16(src[at:]))
		at += 2
		match, ok := more(int(token & 15))
		match += lz4MinMatch
		if !ok || offset == 0 || offset > len(dst) || match > size-len(dst) {
			return nil, malformed("lz4: a match leaves the block")
		}
		for from := len(dst) - offset; match > 0; { // overlapping matches repeat what they have written
			n := min(match, len(dst)-from)
			dst = append(dst, dst[from:from+n]...)
			match -= n
		}
	}
	return nil, malformed("lz4: the block ends without its last literals")
}

// lz4Encode compresses src into one block, greedily, or returns nil if it would not be shorter than src.
func lz4Encode(src []byte) []byte {
	if len(src) < lz4MatchMargin+1 {
		return nil
	}
	dst := make([]byte, 0, len(src))
	var table [1 << lz4HashBits]int32 // position + 1 of the last four bytes with this hash
	anchor, limit := 0, len(src)-lz4MatchMargin
	for at := 0; at < limit; {
		word := binary.LittleEndian.Uint32(src[at:])
		slot := word * 2654435761 >> (32 - lz4HashBits)
		candidate := int(table[slot]) - 1
		table[slot] = int32(at + 1)
		if candidate < 0 || at-candidate > 0xFFFF || binary.LittleEndian.Uint32(src[candidate:]) != word {
			at += 1 + (at-anchor)>>6 // give up faster on what does not compress
			continue
		}
		match := lz4MinMatch
		for at+match < len(src)-lz4LastLiterals && src[candidate+match] == src[at+match] {
			match++
		}
		dst = lz4Sequence(dst, src[anchor:at], at-candidate, match)
		at += match
		anchor = at
		if len(dst) >= len(src) {
			return nil
		}
	}
	dst = lz4Sequence(dst, src[anchor:], 0, 0)
	if len(dst) >= len(src) {
		return nil
	}
	return dst
}

// lz4Sequence appends a sequence; a match of 0 makes it the last one.
func lz4Sequence(dst, literals []byte, offset, match int) []byte {
	token := len(dst)
	dst = append(dst, 0)
	dst = lz4Length(dst, token, 4, len(literals))
	dst = append(dst, literals...)
	if match == 0 {
		return dst
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(offset))
	return lz4Length(dst, token, 0, match-lz4MinMatch)
}

func lz4Length(dst []byte, token, shift, length int) []byte {
	if length < 15 {
		dst[token] |= byte(length << shift)
		return dst
	}
	dst[token] |= byte(15 << shift)
	for length -= 15; length >= 255; length -= 255 {
		dst = append(dst, 255)
	}
	return append(dst, byte(length))
}
