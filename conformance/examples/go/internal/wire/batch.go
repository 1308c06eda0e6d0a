package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// Codecs of a batch's body. This client reads and writes none and lz4.
const (
	CodecNone = 0
	CodecLz4  = 1
	CodecZstd = 2
)

// Sizes of the fixed parts of a batch and of a message.
const (
	ServerPartBytes   = 32
	ProducerPartBytes = 72
	BatchHeadBytes    = ServerPartBytes + ProducerPartBytes
	messageHeadBytes  = 16
)

const (
	batchMagic  = 0x564C
	batchFormat = 1

	batchSparse           = 1
	batchExternalSequence = 2
	batchServerEncoded    = 4
	batchFlags            = batchSparse | batchExternalSequence | batchServerEncoded

	messageHasKey      = 1
	messageNullPayload = 2
	messageHasID       = 4
	messageTS64        = 8
	messageFlags       = messageHasKey | messageNullPayload | messageHasID | messageTS64

	codecMaxRatio = 1024
)

// Record is a message in a batch. A nil payload or key is absent, an empty one is empty.
type Record struct {
	Offset      uint64
	TimestampUS int64
	Payload     []byte
	Key         []byte
	ID          *[16]byte
	Headers     []Header
}

// Header is a named value: a string, []byte, bool, int64, uint64 or float64.
type Header struct {
	Name  string
	Value any
}

// Batch is a batch taken from a frame: its parts checked, its messages still encoded.
type Batch struct {
	// of the server part
	BaseOffset   uint64
	AppendTimeUS int64
	LeaderEpoch  uint32
	// of the producer part
	Codec              uint8
	Flags              uint16
	MessageCount       uint32
	LastOffsetDelta    uint32
	UncompressedLength uint32
	BaseTimestamp      int64
	MaxTimestampDelta  uint64
	ProducerID         uint64
	FirstSequence      uint64
	ProducerEpoch      uint32
	body               []byte
}

// NextOffset is the offset after the batch.
func (b *Batch) NextOffset() uint64 { return b.BaseOffset + uint64(b.LastOffsetDelta) + 1 }

// ErrDamaged is wrapped when a checksum of a batch does not fit its bytes.
var ErrDamaged = fmt.Errorf("%w: a batch fails its checksum", ErrMalformed)

// ParseStored takes the first batch off the body of Deliver or Fetched and gives the rest. It verifies both checksums. If only the server part
// can be read, it gives an error together with a batch of which only NextOffset and the fields of that part are set.
func ParseStored(body []byte, maxBatch uint32) (*Batch, []byte, error) {
	if len(body) < BatchHeadBytes {
		return nil, nil, malformed("%d bytes are no batch", len(body))
	}
	length := binary.LittleEndian.Uint32(body)
	if length < BatchHeadBytes || uint64(length) > uint64(len(body)) {
		return nil, nil, malformed("batch of %d bytes where %d are left", length, len(body))
	}
	stored := body[:length]
	if Checksum(stored[:4], stored[8:ServerPartBytes]) != binary.LittleEndian.Uint32(stored[4:]) {
		return nil, nil, ErrDamaged
	}
	if binary.LittleEndian.Uint32(stored[28:]) != 0 {
		return nil, nil, malformed("reserved bytes of a server part are set")
	}
	b, failed := ParseProduced(stored[ServerPartBytes:], maxBatch)
	if failed != nil {
		b = &Batch{LastOffsetDelta: binary.LittleEndian.Uint32(stored[ServerPartBytes+16:])}
	}
	b.BaseOffset = binary.LittleEndian.Uint64(stored[8:])
	b.AppendTimeUS = int64(binary.LittleEndian.Uint64(stored[16:]))
	b.LeaderEpoch = binary.LittleEndian.Uint32(stored[24:])
	if b.BaseOffset > math.MaxUint64-uint64(b.LastOffsetDelta)-1 {
		return nil, nil, malformed("offsets of a batch overflow")
	}
	return b, body[length:], failed
}

// ParseProduced reads a producer part and the body after it, as Produce carries them.
func ParseProduced(p []byte, maxBatch uint32) (*Batch, error) {
	if len(p) < ProducerPartBytes {
		return nil, malformed("%d bytes are no producer part", len(p))
	}
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(p[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(p[at:]) }
	if uint64(u32(24)) != uint64(len(p)-ProducerPartBytes) {
		return nil, malformed("body of %d bytes, declared are %d", len(p)-ProducerPartBytes, u32(24))
	}
	if Checksum(p[4:]) != u32(0) {
		return nil, ErrDamaged
	}
	b := &Batch{
		Codec: p[7], Flags: u16(8), MessageCount: u32(12), LastOffsetDelta: u32(16), UncompressedLength: u32(20),
		BaseTimestamp: int64(u64(32)), MaxTimestampDelta: u64(40), ProducerID: u64(48), FirstSequence: u64(56), ProducerEpoch: u32(64),
		body: p[ProducerPartBytes:],
	}
	switch {
	case u16(4) != batchMagic:
		return nil, malformed("batch has magic %#x", u16(4))
	case p[6] != batchFormat:
		return nil, malformed("batch has format %d", p[6])
	case b.Codec > CodecZstd:
		return nil, malformed("batch has codec %d", b.Codec)
	case b.Flags&^batchFlags != 0:
		return nil, malformed("batch has flags %#x", b.Flags)
	case u16(10) != 0, u32(28) != 0, u32(68) != 0:
		return nil, malformed("batch has a dictionary or reserved bytes set")
	}
	return b, b.check(maxBatch)
}

// check compares the fields of the producer part with each other.
func (b *Batch) check(maxBatch uint32) error {
	bodyLength, count, least := uint64(len(b.body)), uint64(b.MessageCount), uint64(messageHeadBytes)
	sparse := b.Flags&batchSparse != 0
	if sparse {
		least += 4
	}
	switch {
	case count == 0 || count > MaxMessagesPerBatch:
		return malformed("batch of %d messages", count)
	case uint64(b.LastOffsetDelta) < count-1, !sparse && uint64(b.LastOffsetDelta) != count-1:
		return malformed("batch of %d messages with a last offset of %d", count, b.LastOffsetDelta)
	case uint64(b.UncompressedLength) < least*count || BatchHeadBytes+uint64(b.UncompressedLength) > uint64(maxBatch):
		return malformed("batch of %d messages in %d bytes", count, b.UncompressedLength)
	case b.Codec == CodecNone && bodyLength != uint64(b.UncompressedLength):
		return malformed("plain body of %d bytes, declared are %d", bodyLength, b.UncompressedLength)
	case bodyLength > uint64(b.UncompressedLength), bodyLength*codecMaxRatio < uint64(b.UncompressedLength):
		return malformed("body of %d bytes cannot expand to %d", bodyLength, b.UncompressedLength)
	case b.MaxTimestampDelta > uint64(math.MaxInt64)-uint64(b.BaseTimestamp):
		return malformed("timestamps of a batch overflow")
	case b.FirstSequence > math.MaxUint64-count:
		return malformed("sequences of a batch overflow")
	case b.ProducerID == 0 && (b.FirstSequence != 0 || b.ProducerEpoch != 0):
		return malformed("batch without a producer has a sequence or an epoch")
	}
	return nil
}

// Records decodes the messages. Their bytes share memory with the frame or with the expanded body.
func (b *Batch) Records() ([]Record, error) {
	rest := b.body
	switch b.Codec {
	case CodecNone:
	case CodecLz4:
		var err error
		if rest, err = lz4Decode(b.body, int(b.UncompressedLength)); err != nil {
			return nil, err
		}
	default:
		return nil, malformed("codec %d was not declared", b.Codec)
	}
	records := make([]Record, 0, b.MessageCount) // at most a 16th of the bytes checked above
	var lastDelta uint32
	for n := uint32(0); n < b.MessageCount; n++ {
		r, delta, size, err := b.record(rest, n)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", n, err)
		}
		if n > 0 && delta <= lastDelta || delta > b.LastOffsetDelta {
			return nil, malformed("offsets of message %d are out of order", n)
		}
		lastDelta = delta
		records = append(records, r)
		rest = rest[size:]
	}
	if len(rest) != 0 || lastDelta != b.LastOffsetDelta {
		return nil, malformed("the last message does not end its batch")
	}
	return records, nil
}

// record decodes the message at the start of rest and gives its offset delta and its bytes.
func (b *Batch) record(rest []byte, n uint32) (r Record, delta uint32, size int, err error) {
	d := decoder{rest: rest}
	payloadLength, tsDelta, keyLength, headersLength, flags := d.u32(), d.u32(), d.u16(), d.u16(), d.u32()
	switch {
	case d.err != nil:
	case flags&^uint32(messageFlags) != 0:
		d.fail("flags %#x", flags)
	case flags&messageNullPayload != 0 && payloadLength != 0:
		d.fail("a null payload of %d bytes", payloadLength)
	case flags&messageHasKey == 0 && keyLength != 0:
		d.fail("no key, of %d bytes", keyLength)
	case flags&messageTS64 != 0 && tsDelta != 0:
		d.fail("two timestamps")
	}
	if flags&messageTS64 != 0 {
		r.TimestampUS = int64(d.u64())
	} else {
		r.TimestampUS = b.BaseTimestamp + int64(tsDelta)
	}
	// Both differences are taken modulo 2^64, where they are exact.
	if past := uint64(r.TimestampUS) - uint64(b.BaseTimestamp); d.err == nil && (r.TimestampUS < b.BaseTimestamp || past > b.MaxTimestampDelta) {
		d.fail("timestamp %d is outside its batch's", r.TimestampUS)
	}
	delta = n
	if b.Flags&batchSparse != 0 {
		delta = d.u32()
	}
	r.Offset = b.BaseOffset + uint64(delta)
	if flags&messageHasID != 0 {
		if id := d.take(16); id != nil {
			r.ID = (*[16]byte)(id)
		}
	}
	if flags&messageHasKey != 0 {
		r.Key = d.take(uint64(keyLength))
	}
	headers := d.take(uint64(headersLength))
	if d.err == nil && headersLength != 0 {
		r.Headers, err = decodeHeaders(headers)
		if err != nil {
			return r, 0, 0, err
		}
	}
	if flags&messageNullPayload == 0 {
		r.Payload = d.take(uint64(payloadLength))
	}
	return r, delta, len(rest) - len(d.rest), d.err
}

func decodeHeaders(b []byte) ([]Header, error) {
	d := decoder{rest: b}
	count := int(d.u16())
	if d.err != nil || count == 0 || count*3 > len(d.rest) {
		return nil, malformed("%d headers in %d bytes", count, len(b))
	}
	headers := make([]Header, 0, count)
	seen := make(map[string]struct{}, count)
	for i := 0; i < count && d.err == nil; i++ {
		name := d.take(uint64(d.u8()))
		h := Header{Name: string(name)}
		if _, twice := seen[h.Name]; d.err == nil && (len(name) == 0 || !utf8.Valid(name) || twice) {
			d.fail("header name %q", name)
		}
		seen[h.Name] = struct{}{}
		switch kind := d.u8(); kind {
		case 0:
			text := d.take(uint64(d.u16()))
			if !utf8.Valid(text) {
				d.fail("header %q is not UTF-8", name)
			}
			h.Value = string(text)
		case 1:
			h.Value = append([]byte{}, d.take(uint64(d.u16()))...)
		case 2:
			h.Value = d.bool()
		case 3:
			h.Value = int64(d.u64())
		case 4:
			h.Value = d.u64()
		case 5:
			h.Value = math.Float64frombits(d.u64())
		default:
			d.fail("header of type %d", kind)
		}
		headers = append(headers, h)
	}
	if d.err == nil && len(d.rest) != 0 {
		d.fail("%d bytes follow the last header", len(d.rest))
	}
	return headers, d.err
}

// AppendHeaders encodes headers, or says what is wrong with them.
func AppendHeaders(dst []byte, headers []Header) ([]byte, error) {
	if len(headers) == 0 {
		return dst, nil
	}
	if len(headers) > 0xFFFF {
		return nil, fmt.Errorf("%d headers are more than 65535", len(headers))
	}
	start := len(dst)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(headers)))
	seen := make(map[string]struct{}, len(headers))
	for _, h := range headers {
		if _, twice := seen[h.Name]; twice {
			return nil, fmt.Errorf("header %q occurs twice", h.Name)
		}
		seen[h.Name] = struct{}{}
		if len(h.Name) == 0 || len(h.Name) > 255 || !utf8.ValidString(h.Name) {
			return nil, fmt.Errorf("header name %q is not 1 to 255 bytes of UTF-8", h.Name)
		}
		dst = append(dst, uint8(len(h.Name)))
		dst = append(dst, h.Name...)
		var err error
		if dst, err = appendHeaderValue(dst, h); err != nil {
			return nil, err
		}
		if len(dst)-start > MaxHeadersBytes {
			return nil, ErrHeadersTooLong
		}
	}
	return dst, nil
}

// ErrHeadersTooLong tells that the headers of a message take more than MaxHeadersBytes.
var ErrHeadersTooLong = fmt.Errorf("headers take more than %d bytes", MaxHeadersBytes)

func appendHeaderValue(dst []byte, h Header) ([]byte, error) {
	switch v := h.Value.(type) {
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("header %q is not UTF-8", h.Name)
		}
		if len(v) > 0xFFFF {
			return nil, ErrHeadersTooLong
		}
		return append(binary.LittleEndian.AppendUint16(append(dst, 0), uint16(len(v))), v...), nil
	case []byte:
		if len(v) > 0xFFFF {
			return nil, ErrHeadersTooLong
		}
		return append(binary.LittleEndian.AppendUint16(append(dst, 1), uint16(len(v))), v...), nil
	case bool:
		return append(dst, 2, b2u(v)), nil
	case int64:
		return binary.LittleEndian.AppendUint64(append(dst, 3), uint64(v)), nil
	case uint64:
		return binary.LittleEndian.AppendUint64(append(dst, 4), v), nil
	case float64:
		return binary.LittleEndian.AppendUint64(append(dst, 5), math.Float64bits(v)), nil
	}
	return nil, fmt.Errorf("header %q has a value of type %T", h.Name, h.Value)
}

// RecordBytes is what a message takes at most in a batch, given its encoded headers.
func RecordBytes(r *Record, headersBytes int) int {
	n := messageHeadBytes + 8 + len(r.Key) + headersBytes + len(r.Payload)
	if r.ID != nil {
		n += len(r.ID)
	}
	return n
}

// EncodeBatch writes producer part and body of records, which are at least one, with offsets 0, 1, 2 and so on and without a
// producer; Stamp adds that. A codec that does not help is left out.
func EncodeBatch(records []Record, codec uint8) ([]byte, error) {
	low, high := records[0].TimestampUS, records[0].TimestampUS
	size := ProducerPartBytes
	for i := range records {
		low, high = min(low, records[i].TimestampUS), max(high, records[i].TimestampUS)
		size += RecordBytes(&records[i], 0)
	}
	p := make([]byte, ProducerPartBytes, size)
	var err error
	for i := range records {
		if p, err = appendRecord(p, &records[i], low); err != nil {
			return nil, err
		}
	}
	plain := p[ProducerPartBytes:]
	if len(plain) > MaxBatchBytes-BatchHeadBytes || len(records) > MaxMessagesPerBatch {
		return nil, fmt.Errorf("a batch of %d messages in %d bytes", len(records), len(plain))
	}
	uncompressed := uint32(len(plain))
	if codec == CodecLz4 {
		packed := lz4Encode(plain)
		if packed != nil && len(packed)*codecMaxRatio >= len(plain) {
			p = append(p[:ProducerPartBytes], packed...)
		} else {
			codec = CodecNone
		}
	}
	binary.LittleEndian.PutUint16(p[4:], batchMagic)
	p[6], p[7] = batchFormat, codec
	binary.LittleEndian.PutUint32(p[12:], uint32(len(records)))
	binary.LittleEndian.PutUint32(p[16:], uint32(len(records)-1))
	binary.LittleEndian.PutUint32(p[20:], uncompressed)
	binary.LittleEndian.PutUint32(p[24:], uint32(len(p)-ProducerPartBytes))
	binary.LittleEndian.PutUint64(p[32:], uint64(low))
	binary.LittleEndian.PutUint64(p[40:], uint64(high)-uint64(low))
	Stamp(p, 0, 0, 0)
	return p, nil
}

// Stamp puts a producer and a sequence into a producer part and renews its checksum.
func Stamp(p []byte, producer uint64, epoch uint32, sequence uint64) {
	copy(p, Stamped(p, producer, epoch, sequence))
}

// Stamped gives the producer part of p with a producer and a sequence; p, which has the body too, stays as it is.
func Stamped(p []byte, producer uint64, epoch uint32, sequence uint64) []byte {
	part := append([]byte{}, p[:ProducerPartBytes]...)
	binary.LittleEndian.PutUint64(part[48:], producer)
	binary.LittleEndian.PutUint64(part[56:], sequence)
	binary.LittleEndian.PutUint32(part[64:], epoch)
	binary.LittleEndian.PutUint32(part[0:], Checksum(part[4:], p[ProducerPartBytes:]))
	return part
}

func appendRecord(dst []byte, r *Record, base int64) ([]byte, error) {
	if len(r.Key) > MaxKeyBytes || uint64(len(r.Payload)) > math.MaxUint32 {
		return nil, fmt.Errorf("a key of %d or a payload of %d bytes is too long", len(r.Key), len(r.Payload))
	}
	at := len(dst)
	dst = append(dst, make([]byte, messageHeadBytes)...)
	var flags uint32
	delta := uint64(r.TimestampUS) - uint64(base)
	if delta > math.MaxUint32 {
		flags |= messageTS64
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.TimestampUS))
		delta = 0
	}
	if r.ID != nil {
		flags |= messageHasID
		dst = append(dst, r.ID[:]...)
	}
	if r.Key != nil {
		flags |= messageHasKey
		dst = append(dst, r.Key...)
	}
	headers := len(dst)
	dst, err := AppendHeaders(dst, r.Headers)
	if err != nil {
		return nil, err
	}
	headersLength := len(dst) - headers
	if r.Payload == nil {
		flags |= messageNullPayload
	}
	dst = append(dst, r.Payload...)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(r.Payload)))
	binary.LittleEndian.PutUint32(dst[at+4:], uint32(delta))
	binary.LittleEndian.PutUint16(dst[at+8:], uint16(len(r.Key)))
	binary.LittleEndian.PutUint16(dst[at+10:], uint16(headersLength))
	binary.LittleEndian.PutUint32(dst[at+12:], flags)
	return dst, nil
}

// AppendStored puts a server part before a producer part and body; only servers and tests do that.
func AppendStored(dst, produced []byte, baseOffset uint64, appendTimeUS int64, epoch uint32) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, ServerPartBytes)...)
	s := dst[at:]
	binary.LittleEndian.PutUint32(s, uint32(ServerPartBytes+len(produced)))
	binary.LittleEndian.PutUint64(s[8:], baseOffset)
	binary.LittleEndian.PutUint64(s[16:], uint64(appendTimeUS))
	binary.LittleEndian.PutUint32(s[24:], epoch)
	binary.LittleEndian.PutUint32(s[4:], Checksum(s[:4], s[8:]))
	return append(dst, produced...)
}
