package levada

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.org/levada/internal/wire"
)

// What the protocol and this package call the same.
type (
	Detail           = wire.Detail
	Durability       = wire.Durability
	TopicCompression = wire.TopicCompression
	Role             = wire.Role
	StreamInfo       = wire.StreamInfo
	TopicInfo        = wire.TopicInfo
	PartitionInfo    = wire.PartitionInfo
	UserInfo         = wire.UserInfo
	TokenInfo        = wire.TokenInfo
	ServerStatus     = wire.ServerStatus
	Header           = wire.Header
)

// Levels of durability.
const (
	Memory = wire.DurabilityMemory
	Disk   = wire.DurabilityDisk
	Quorum = wire.DurabilityQuorum
)

// Roles of users.
const (
	Admin  = wire.RoleAdmin
	Member = wire.RoleMember
)

// Message is a message to send. A nil payload or key is absent, which differs from an empty one.
type Message struct {
	Payload []byte
	Key     []byte
	// Headers are named values of type string, []byte, bool, int64, uint64 or float64; names are unique.
	Headers []Header
	// TimestampUS is when it happened, in microseconds since the Unix epoch; nil is the time it is handed over.
	TimestampUS *int64
	// ID is an identity of the application's own.
	ID *[16]byte
	// Partition is where it must go; nil leaves it to the key, or to the producer if there is none.
	Partition *uint32
}

// Received is a message that was read.
type Received struct {
	Partition uint32
	Offset    uint64
	// TimestampUS and AppendTimeUS are microseconds since the Unix epoch: when it happened, and when it was appended.
	TimestampUS  int64
	AppendTimeUS int64
	Payload      []byte
	Key          []byte
	Headers      []Header
	ID           *[16]byte
}

// Time is when it happened.
func (r *Received) Time() time.Time { return time.UnixMicro(r.TimestampUS) }

// Receipt tells where a message went. Offset is nil if an earlier attempt had appended it too long ago to tell.
type Receipt struct {
	Partition     uint32     `json:"partition"`
	Offset        *uint64    `json:"offset"`
	AppendTimeUS  int64      `json:"append_time_us"`
	Durability    Durability `json:"durability"`
	Duplicate     bool       `json:"duplicate"`
	ServerEncoded bool       `json:"server_encoded"`
}

// BatchReceipt tells where messages of one batch went: MessageCount offsets from BaseOffset on.
type BatchReceipt struct {
	Partition     uint32     `json:"partition"`
	BaseOffset    *uint64    `json:"base_offset"`
	MessageCount  uint32     `json:"message_count"`
	AppendTimeUS  int64      `json:"append_time_us"`
	Durability    Durability `json:"durability"`
	Duplicate     bool       `json:"duplicate"`
	ServerEncoded bool       `json:"server_encoded"`
}

// Position is a place in a partition.
type Position struct{ p wire.Position }

// Earliest is the start of what is kept.
func Earliest() Position { return Position{wire.Position{Kind: wire.PositionKindEarliest}} }

// Latest is the end, after the last message.
func Latest() Position { return Position{wire.Position{Kind: wire.PositionKindLatest}} }

// Offset is the message with an offset.
func Offset(n uint64) Position {
	return Position{wire.Position{Kind: wire.PositionKindOffset, Value: n}}
}

// Timestamp is the first message appended at or after a time in microseconds since the Unix epoch.
func Timestamp(us int64) Position {
	return Position{wire.Position{Kind: wire.PositionKindTimestamp, Value: uint64(us)}}
}

// Last is n messages before the end.
func Last(n uint64) Position { return Position{wire.Position{Kind: wire.PositionKindLast, Value: n}} }

// String is the form that ParsePosition reads.
func (p Position) String() string {
	switch p.p.Kind {
	case wire.PositionKindEarliest, wire.PositionKindLatest:
		return p.p.Kind.String()
	case wire.PositionKindTimestamp:
		return fmt.Sprintf("timestamp(%d)", int64(p.p.Value))
	}
	return fmt.Sprintf("%s(%d)", p.p.Kind, p.p.Value)
}

// ParsePosition reads "earliest", "latest", "offset(5)", "timestamp(1700000000000000)" and "last(3)". Its error names the argument.
func ParsePosition(argument, text string) (Position, error) {
	name, inner, hasValue := strings.Cut(text, "(")
	kind, ok := wire.ParsePositionKind(name)
	plain := kind == wire.PositionKindEarliest || kind == wire.PositionKindLatest
	if !ok || plain == hasValue || hasValue && !strings.HasSuffix(inner, ")") {
		return Position{}, usage(argument, "%q is no position", text)
	}
	p := wire.Position{Kind: kind}
	var err error
	if value := strings.TrimSuffix(inner, ")"); kind == wire.PositionKindTimestamp {
		var t int64
		t, err = strconv.ParseInt(value, 10, 64)
		p.Value = uint64(t)
	} else if hasValue {
		p.Value, err = strconv.ParseUint(value, 10, 64)
	}
	if err != nil {
		return Position{}, usage(argument, "%q is no position", text)
	}
	return Position{p}, nil
}

// splitTopic reads "stream/topic" and, where a partition may follow, "stream/topic:3".
func splitTopic(text string, partitionAllowed bool) (stream, topic string, partition *uint32, err error) {
	stream, topic, ok := strings.Cut(text, "/")
	if !ok {
		return "", "", nil, fail(CodeInvalidName, nil, fmt.Sprintf("%.300q is not of the form stream/topic", text), "name", text)
	}
	if name, number, has := strings.Cut(topic, ":"); has && partitionAllowed {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return "", "", nil, usage("topic", "%q ends with no partition", text)
		}
		p := uint32(n)
		topic, partition = name, &p
	}
	for _, name := range []string{stream, topic} {
		if err := checkName(name); err != nil {
			return "", "", nil, err
		}
	}
	return stream, topic, partition, nil
}

func checkName(name string) error {
	if !wire.ValidName(name) {
		return fail(CodeInvalidName, nil, fmt.Sprintf("%.300q is no name", name), "name", name)
	}
	return nil
}

// ParseDurability, ParseTopicCompression and ParseRole find a value by its name in the specification.
var (
	ParseDurability       = wire.ParseDurability
	ParseTopicCompression = wire.ParseTopicCompression
	ParseRole             = wire.ParseRole
)
