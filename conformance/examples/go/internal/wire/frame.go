package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Preface is what a client sends before its first frame.
var Preface = []byte{'L', 'V', 'D', 'A', 0, 1, 0, 0}

// Limits of section 9. Welcome may tell lower ones.
const (
	MaxPreauthFrameBytes = 8192
	MaxControlBytes      = 1 << 20
	MaxBatchBytes        = 16 << 20
	MaxMessagesPerBatch  = 1_000_000
	MaxKeyBytes          = 65535
	MaxHeadersBytes      = 65535
	MaxInFlight          = 64
	MaxRequestsInFlight  = 1024
	MaxPartitions        = 4096
)

// KindError is the kind of the reply to a request that failed.
const KindError = 0xFFFF

const (
	frameHeaderBytes = 16
	flagBody         = 1
	// readStepBytes bounds what is allocated for a frame before its bytes have come.
	readStepBytes = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC32C of parts, one after the other.
func Checksum(parts ...[]byte) uint32 {
	var crc uint32
	for _, p := range parts {
		crc = crc32.Update(crc, castagnoli, p)
	}
	return crc
}

// Frame is one frame. Body is nil for kinds without one.
type Frame struct {
	Kind        uint16
	Correlation uint32
	Control     []byte
	Body        []byte
}

// Head encodes everything of the frame but its body, which follows as it is.
func (f *Frame) Head() []byte { return f.HeadFor(len(f.Body)) }

// HeadFor is Head for a body of that many bytes, which need not be in f.
func (f *Frame) HeadFor(bodyBytes int) []byte {
	hasBody := HasBody(f.Kind)
	head := make([]byte, frameHeaderBytes, frameHeaderBytes+4+len(f.Control))
	length := 12 + len(f.Control)
	var flags uint16
	if hasBody {
		flags = flagBody
		length += 4 + bodyBytes
		head = binary.LittleEndian.AppendUint32(head, uint32(len(f.Control)))
	}
	head = append(head, f.Control...)
	binary.LittleEndian.PutUint32(head[0:], uint32(length))
	binary.LittleEndian.PutUint16(head[4:], f.Kind)
	binary.LittleEndian.PutUint16(head[6:], flags)
	binary.LittleEndian.PutUint32(head[8:], f.Correlation)
	binary.LittleEndian.PutUint32(head[12:], Checksum(head))
	return head
}

// ErrFrameDamaged is wrapped when the checksum of a frame does not fit its bytes: the network did that, not the peer.
var ErrFrameDamaged = errors.New("a frame was damaged on its way")

// ReadFrame reads one frame whose control part has at most maxControl bytes and whose body has at most maxBody. An error
// that wraps ErrMalformed means that the peer broke the protocol, ErrFrameDamaged that bytes were damaged on their way; others come
// from r.
func ReadFrame(r io.Reader, maxControl, maxBody uint32) (*Frame, error) {
	var head [frameHeaderBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(head[0:])
	flags := binary.LittleEndian.Uint16(head[6:])
	f := &Frame{Kind: binary.LittleEndian.Uint16(head[4:]), Correlation: binary.LittleEndian.Uint32(head[8:])}
	crc := binary.LittleEndian.Uint32(head[12:])
	clear(head[12:16])
	if flags&^uint16(flagBody) != 0 {
		return nil, malformed("frame has unknown flags %#x", flags)
	}
	most := uint64(12) + uint64(maxControl)
	if flags&flagBody != 0 {
		most += 4 + uint64(maxBody)
	}
	if length < 12 || uint64(length) > most {
		return nil, malformed("frame of kind %#04x has a length of %d, allowed are %d", f.Kind, length, most)
	}
	rest, err := readGrowing(r, int(length)-12)
	if err != nil {
		return nil, err
	}
	if flags&flagBody == 0 {
		f.Control = rest
		if Checksum(head[:], rest) != crc {
			return nil, fmt.Errorf("%w: kind %#04x", ErrFrameDamaged, f.Kind)
		}
		return f, checkBodyFlag(f.Kind, false)
	}
	if len(rest) < 4 {
		return nil, malformed("frame of kind %#04x has no room for the length of its control part", f.Kind)
	}
	controlLength := binary.LittleEndian.Uint32(rest)
	if controlLength > maxControl || uint64(controlLength) > uint64(len(rest)-4) {
		return nil, malformed("control part of %d bytes in a frame of %d", controlLength, length)
	}
	f.Control = rest[4 : 4+controlLength]
	f.Body = rest[4+controlLength:]
	if uint64(len(f.Body)) > uint64(maxBody) {
		return nil, malformed("body of %d bytes, allowed are %d", len(f.Body), maxBody)
	}
	if Checksum(head[:], rest[:4+controlLength]) != crc {
		return nil, fmt.Errorf("%w: kind %#04x", ErrFrameDamaged, f.Kind)
	}
	return f, checkBodyFlag(f.Kind, true)
}

// checkBodyFlag refuses a known kind with the wrong flag; what an unknown kind carries is not ours to judge.
func checkBodyFlag(kind uint16, body bool) error {
	if _, known := kinds[kind]; known && HasBody(kind) != body {
		return malformed("frame of kind %#04x has BODY set wrongly", kind)
	}
	return nil
}

// readGrowing reads n bytes and never allocates more than twice of what has come, or readStepBytes.
func readGrowing(r io.Reader, n int) ([]byte, error) {
	buf := make([]byte, min(n, readStepBytes))
	read := 0
	for {
		got, err := io.ReadFull(r, buf[read:])
		read += got
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if read == n {
			return buf, nil
		}
		bigger := make([]byte, min(n, 2*len(buf)))
		copy(bigger, buf)
		buf = bigger
	}
}
