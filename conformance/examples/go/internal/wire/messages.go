package wire

// The enums, structs and messages of section 8 of the specification, field by field in the order of the wire.
// The json tag of a field is its name in messages.toml; an optional field is a pointer.

// Durability: what an acknowledgement means.
type Durability uint8

// Values of Durability.
const (
	DurabilityMemory Durability = 0
	DurabilityDisk   Durability = 1
	DurabilityQuorum Durability = 2
)

var durabilityNames = []string{"memory", "disk", "quorum"}

// String is the name of the value in the specification.
func (v Durability) String() string { return enumName(durabilityNames, uint8(v)) }

func (v Durability) valid() bool { return int(v) < len(durabilityNames) }

// ParseDurability finds a value by its name in the specification.
func ParseDurability(name string) (Durability, bool) {
	i, ok := enumValue(durabilityNames, name)
	return Durability(i), ok
}

// TopicCompression: codec of what a topic stores: its producers use it unless told otherwise, and the server encodes anew what comes in another.
type TopicCompression uint8

// Values of TopicCompression.
const (
	TopicCompressionProducer TopicCompression = 0
	TopicCompressionNone     TopicCompression = 1
	TopicCompressionLz4      TopicCompression = 2
	TopicCompressionZstd     TopicCompression = 3
)

var topicCompressionNames = []string{"producer", "none", "lz4", "zstd"}

// String is the name of the value in the specification.
func (v TopicCompression) String() string { return enumName(topicCompressionNames, uint8(v)) }

func (v TopicCompression) valid() bool { return int(v) < len(topicCompressionNames) }

// ParseTopicCompression finds a value by its name in the specification.
func ParseTopicCompression(name string) (TopicCompression, bool) {
	i, ok := enumValue(topicCompressionNames, name)
	return TopicCompression(i), ok
}

// PositionKind: where a consumer starts. `value` of Position is the offset, the append time in microseconds (bits of an i64), or the message count; 0 where none is needed.
type PositionKind uint8

// Values of PositionKind.
const (
	PositionKindOffset    PositionKind = 0
	PositionKindTimestamp PositionKind = 1
	PositionKindEarliest  PositionKind = 2
	PositionKindLatest    PositionKind = 3
	PositionKindLast      PositionKind = 4
	PositionKindStored    PositionKind = 5
)

var positionKindNames = []string{"offset", "timestamp", "earliest", "latest", "last", "stored"}

// String is the name of the value in the specification.
func (v PositionKind) String() string { return enumName(positionKindNames, uint8(v)) }

func (v PositionKind) valid() bool { return int(v) < len(positionKindNames) }

// ParsePositionKind finds a value by its name in the specification.
func ParsePositionKind(name string) (PositionKind, bool) {
	i, ok := enumValue(positionKindNames, name)
	return PositionKind(i), ok
}

// AuthMethod: how the secret of Authenticate is to be read.
type AuthMethod uint8

// Values of AuthMethod.
const (
	AuthMethodPassword AuthMethod = 0
	AuthMethodToken    AuthMethod = 1
	AuthMethodTicket   AuthMethod = 2
)

var authMethodNames = []string{"password", "token", "ticket"}

// String is the name of the value in the specification.
func (v AuthMethod) String() string { return enumName(authMethodNames, uint8(v)) }

func (v AuthMethod) valid() bool { return int(v) < len(authMethodNames) }

// ParseAuthMethod finds a value by its name in the specification.
func ParseAuthMethod(name string) (AuthMethod, bool) {
	i, ok := enumValue(authMethodNames, name)
	return AuthMethod(i), ok
}

// Role: what a user may do: `admin` everything; `member` everything but managing streams, topics, users and other users' tokens.
type Role uint8

// Values of Role.
const (
	RoleAdmin  Role = 0
	RoleMember Role = 1
)

var roleNames = []string{"admin", "member"}

// String is the name of the value in the specification.
func (v Role) String() string { return enumName(roleNames, uint8(v)) }

func (v Role) valid() bool { return int(v) < len(roleNames) }

// ParseRole finds a value by its name in the specification.
func ParseRole(name string) (Role, bool) {
	i, ok := enumValue(roleNames, name)
	return Role(i), ok
}

// PartitionState: whether a partition takes appends.
type PartitionState uint8

// Values of PartitionState.
const (
	PartitionStateWritable    PartitionState = 0
	PartitionStateReadOnly    PartitionState = 1
	PartitionStateUnavailable PartitionState = 2
)

var partitionStateNames = []string{"writable", "read_only", "unavailable"}

// String is the name of the value in the specification.
func (v PartitionState) String() string { return enumName(partitionStateNames, uint8(v)) }

func (v PartitionState) valid() bool { return int(v) < len(partitionStateNames) }

// ParsePartitionState finds a value by its name in the specification.
func ParsePartitionState(name string) (PartitionState, bool) {
	i, ok := enumValue(partitionStateNames, name)
	return PartitionState(i), ok
}

// GoodbyeReason: why the server is about to close the connection.
type GoodbyeReason uint8

// Values of GoodbyeReason.
const (
	GoodbyeReasonShutdown     GoodbyeReason = 0
	GoodbyeReasonIdle         GoodbyeReason = 1
	GoodbyeReasonProtocol     GoodbyeReason = 2
	GoodbyeReasonSlowConsumer GoodbyeReason = 3
	GoodbyeReasonRevoked      GoodbyeReason = 4
	GoodbyeReasonAuthTimeout  GoodbyeReason = 5
)

var goodbyeReasonNames = []string{"shutdown", "idle", "protocol", "slow_consumer", "revoked", "auth_timeout"}

// String is the name of the value in the specification.
func (v GoodbyeReason) String() string { return enumName(goodbyeReasonNames, uint8(v)) }

func (v GoodbyeReason) valid() bool { return int(v) < len(goodbyeReasonNames) }

// ParseGoodbyeReason finds a value by its name in the specification.
func ParseGoodbyeReason(name string) (GoodbyeReason, bool) {
	i, ok := enumValue(goodbyeReasonNames, name)
	return GoodbyeReason(i), ok
}

// Position: a place in a partition.
type Position struct {
	Kind  PositionKind `json:"kind"`  // which kind of place
	Value uint64       `json:"value"` // see PositionKind
}

// TopicOptions: what a topic is created with.
type TopicOptions struct {
	PartitionCount uint32           `json:"partition_count"`  // 1 to max_partitions_per_topic
	Durability     Durability       `json:"durability"`       // `memory` or `disk`; `quorum` answers UNSUPPORTED on a single node
	Compression    TopicCompression `json:"compression"`      // codec of what is stored
	RetentionBytes *uint64          `json:"retention_bytes"`  // per partition, physical; absent is unlimited
	RetentionAgeUS *uint64          `json:"retention_age_us"` // by append time; absent is unlimited
	SegmentBytes   *uint64          `json:"segment_bytes"`    // size at which a segment is sealed; absent is the server's default
}

// TopicChanges: what AlterTopic changes; absent fields stay. A retention of 0 means unlimited from now on.
type TopicChanges struct {
	PartitionCount *uint32           `json:"partition_count"` // may only grow; key order breaks across the change
	Durability     *Durability       `json:"durability"`      // applies to appends after the change
	Compression    *TopicCompression `json:"compression"`
	RetentionBytes *uint64           `json:"retention_bytes"`  // 0 = unlimited
	RetentionAgeUS *uint64           `json:"retention_age_us"` // 0 = unlimited
	SegmentBytes   *uint64           `json:"segment_bytes"`    // 0 = the server's default
}

// StreamInfo: a stream.
type StreamInfo struct {
	StreamID    uint32 `json:"stream_id"` // never reused
	Stream      string `json:"stream"`    // name
	TopicCount  uint32 `json:"topic_count"`
	CreatedAtUS int64  `json:"created_at_us"`
}

// TopicInfo: a topic.
type TopicInfo struct {
	TopicID     uint32       `json:"topic_id"` // never reused; data requests carry it
	Stream      string       `json:"stream"`   // name of its stream
	Topic       string       `json:"topic"`    // name
	Options     TopicOptions `json:"options"`  // as they are now
	CreatedAtUS int64        `json:"created_at_us"`
}

// PartitionInfo: a partition as its owner sees it.
type PartitionInfo struct {
	Partition        uint32         `json:"partition"` // 0-based
	Shard            uint16         `json:"shard"`     // core that owns it, for Hello.shard
	State            PartitionState `json:"state"`
	StateReason      string         `json:"state_reason"`       // why it is not writable; else empty
	LogStartOffset   uint64         `json:"log_start_offset"`   // lowest offset kept
	VisibleEndOffset uint64         `json:"visible_end_offset"` // offset after the last message a consumer can see
	DurableEndOffset uint64         `json:"durable_end_offset"` // offset after the last message on disk
	LeaderEpoch      uint32         `json:"leader_epoch"`
	SizeBytes        uint64         `json:"size_bytes"` // physical
	SegmentCount     uint32         `json:"segment_count"`
}

// UserInfo: a user.
type UserInfo struct {
	UserID      uint32 `json:"user_id"` // never reused
	User        string `json:"user"`    // name
	Role        Role   `json:"role"`
	CreatedAtUS int64  `json:"created_at_us"`
	TokenCount  uint32 `json:"token_count"`
}

// TokenInfo: a personal access token, without its secret.
type TokenInfo struct {
	TokenID     uint32 `json:"token_id"` // never reused
	Name        string `json:"name"`     // unique per user
	User        string `json:"user"`     // whose it is
	CreatedAtUS int64  `json:"created_at_us"`
	ExpiresAtUS *int64 `json:"expires_at_us"` // absent is never
}

// Detail: a named value of an error: numbers in decimal.
type Detail struct {
	Name  string `json:"name"` // as in errors.toml
	Value string `json:"value"`
}

// ReadOnlyPartition: a partition that refuses appends.
type ReadOnlyPartition struct {
	Stream    string `json:"stream"`
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	Reason    string `json:"reason"`
}

// Hello: first frame of a connection, after the preface.
type Hello struct {
	MinVersion    uint16  `json:"min_version"`   // lowest protocol version the client speaks
	MaxVersion    uint16  `json:"max_version"`   // highest
	Features      uint64  `json:"features"`      // feature bits the client knows; none are defined in version 1
	BatchFormats  U8List  `json:"batch_formats"` // batch formats it can read
	Codecs        U8List  `json:"codecs"`        // codecs it can read
	Client        string  `json:"client"`        // name of the client library
	ClientVersion string  `json:"client_version"`
	Shard         *uint16 `json:"shard"` // core it would like to be served by, from PartitionInfo.shard; a wish
}

// Kind is the number of the message on the wire.
func (*Hello) Kind() uint16 { return 0x0001 }

// Welcome: answer to Hello.
type Welcome struct {
	Version         uint16 `json:"version"`  // protocol version of this connection
	Features        uint64 `json:"features"` // feature bits in force
	ServerVersion   string `json:"server_version"`
	ClusterID       []byte `json:"cluster_id"` // 16 bytes, one for each data directory's birth
	NodeID          uint32 `json:"node_id"`
	Shard           uint16 `json:"shard"` // core that serves this connection
	ShardCount      uint16 `json:"shard_count"`
	AuthRequired    bool   `json:"auth_required"` // whether Authenticate must come next
	MaxControlBytes uint32 `json:"max_control_bytes"`
	MaxBatchBytes   uint32 `json:"max_batch_bytes"`
	MaxPayloadBytes uint32 `json:"max_payload_bytes"` // largest payload that fits a batch alone with the largest key and headers
	MaxInFlight     uint16 `json:"max_in_flight"`
	IdleTimeoutMS   uint32 `json:"idle_timeout_ms"` // silence after which the server closes; Ping before
	ServerTimeUS    int64  `json:"server_time_us"`
}

// Kind is the number of the message on the wire.
func (*Welcome) Kind() uint16 { return 0x8001 }

// Authenticate: proves who the client is.
type Authenticate struct {
	Method AuthMethod `json:"method"`
	User   string     `json:"user"`   // with `password`; else empty
	Secret []byte     `json:"secret"` // password, token text or ticket
}

// Kind is the number of the message on the wire.
func (*Authenticate) Kind() uint16 { return 0x0002 }

// Authenticated: the connection speaks for a user from here on.
type Authenticated struct {
	User              string `json:"user"`
	Role              Role   `json:"role"`
	Ticket            []byte `json:"ticket"` // session ticket for sibling connections and reconnects
	TicketExpiresAtUS int64  `json:"ticket_expires_at_us"`
}

// Kind is the number of the message on the wire.
func (*Authenticated) Kind() uint16 { return 0x8002 }

// Ping: asks for a sign of life.
type Ping struct {
}

// Kind is the number of the message on the wire.
func (*Ping) Kind() uint16 { return 0x0003 }

// Pong: answer to Ping.
type Pong struct {
	ServerTimeUS int64 `json:"server_time_us"`
}

// Kind is the number of the message on the wire.
func (*Pong) Kind() uint16 { return 0x8003 }

// Error: the reply of any request that failed. Its meaning is in these fields; a client need not know the code.
type Error struct {
	Code         uint16   `json:"code"`           // errors.toml
	Class        uint8    `json:"class"`          // errors.toml
	Flags        uint8    `json:"flags"`          // 1 retriable, 2 maybe_applied
	RetryAfterMS uint32   `json:"retry_after_ms"` // 0: the client's own back-off
	Message      string   `json:"message"`        // what went wrong and what to do, for a person
	Details      []Detail `json:"details"`
}

// Kind is the number of the message on the wire.
func (*Error) Kind() uint16 { return 0xffff }

// Goodbye: push: the server closes the connection after this frame.
type Goodbye struct {
	Reason  GoodbyeReason `json:"reason"`
	Message string        `json:"message"`
}

// Kind is the number of the message on the wire.
func (*Goodbye) Kind() uint16 { return 0x4001 }

// CreateStream: creates a stream.
type CreateStream struct {
	Stream string `json:"stream"`
}

// Kind is the number of the message on the wire.
func (*CreateStream) Kind() uint16 { return 0x0010 }

// StreamCreated: reply number 0x8010.
type StreamCreated struct {
	Stream StreamInfo `json:"stream"`
}

// Kind is the number of the message on the wire.
func (*StreamCreated) Kind() uint16 { return 0x8010 }

// DeleteStream: deletes a stream; CONFLICT if it has topics and `topics` does not say to delete them too.
type DeleteStream struct {
	Stream string `json:"stream"`
	Topics bool   `json:"topics"` // delete its topics too
}

// Kind is the number of the message on the wire.
func (*DeleteStream) Kind() uint16 { return 0x0011 }

// StreamDeleted: reply number 0x8011.
type StreamDeleted struct {
	TopicCount uint32 `json:"topic_count"` // topics deleted with it
}

// Kind is the number of the message on the wire.
func (*StreamDeleted) Kind() uint16 { return 0x8011 }

// ListStreams: request 0x0012.
type ListStreams struct {
}

// Kind is the number of the message on the wire.
func (*ListStreams) Kind() uint16 { return 0x0012 }

// Streams: reply number 0x8012.
type Streams struct {
	Streams []StreamInfo `json:"streams"` // by name
}

// Kind is the number of the message on the wire.
func (*Streams) Kind() uint16 { return 0x8012 }

// DescribeStream: request 0x0013.
type DescribeStream struct {
	Stream string `json:"stream"`
}

// Kind is the number of the message on the wire.
func (*DescribeStream) Kind() uint16 { return 0x0013 }

// StreamDescribed: reply number 0x8013.
type StreamDescribed struct {
	Stream StreamInfo  `json:"stream"`
	Topics []TopicInfo `json:"topics"` // by name
}

// Kind is the number of the message on the wire.
func (*StreamDescribed) Kind() uint16 { return 0x8013 }

// CreateTopic: creates a topic, and its stream if that is absent.
type CreateTopic struct {
	Stream  string       `json:"stream"`
	Topic   string       `json:"topic"`
	Options TopicOptions `json:"options"`
}

// Kind is the number of the message on the wire.
func (*CreateTopic) Kind() uint16 { return 0x0020 }

// TopicCreated: reply number 0x8020.
type TopicCreated struct {
	Topic TopicInfo `json:"topic"`
}

// Kind is the number of the message on the wire.
func (*TopicCreated) Kind() uint16 { return 0x8020 }

// AlterTopic: request 0x0021.
type AlterTopic struct {
	Stream  string       `json:"stream"`
	Topic   string       `json:"topic"`
	Changes TopicChanges `json:"changes"`
}

// Kind is the number of the message on the wire.
func (*AlterTopic) Kind() uint16 { return 0x0021 }

// TopicAltered: reply number 0x8021.
type TopicAltered struct {
	Topic TopicInfo `json:"topic"`
}

// Kind is the number of the message on the wire.
func (*TopicAltered) Kind() uint16 { return 0x8021 }

// DeleteTopic: deletes a topic and its data.
type DeleteTopic struct {
	Stream string `json:"stream"`
	Topic  string `json:"topic"`
}

// Kind is the number of the message on the wire.
func (*DeleteTopic) Kind() uint16 { return 0x0022 }

// TopicDeleted: reply number 0x8022.
type TopicDeleted struct {
}

// Kind is the number of the message on the wire.
func (*TopicDeleted) Kind() uint16 { return 0x8022 }

// PurgeTopic: removes every message visible now; offsets go on from where they were.
type PurgeTopic struct {
	Stream    string  `json:"stream"`
	Topic     string  `json:"topic"`
	Partition *uint32 `json:"partition"` // absent: all
}

// Kind is the number of the message on the wire.
func (*PurgeTopic) Kind() uint16 { return 0x0023 }

// TopicPurged: reply number 0x8023.
type TopicPurged struct {
}

// Kind is the number of the message on the wire.
func (*TopicPurged) Kind() uint16 { return 0x8023 }

// ListTopics: request 0x0024.
type ListTopics struct {
	Stream *string `json:"stream"` // absent: of all streams
}

// Kind is the number of the message on the wire.
func (*ListTopics) Kind() uint16 { return 0x0024 }

// Topics: reply number 0x8024.
type Topics struct {
	Topics []TopicInfo `json:"topics"` // by stream and name
}

// Kind is the number of the message on the wire.
func (*Topics) Kind() uint16 { return 0x8024 }

// DescribeTopic: id, options and partitions of a topic; clients ask it before they produce or consume.
type DescribeTopic struct {
	Stream string `json:"stream"`
	Topic  string `json:"topic"`
}

// Kind is the number of the message on the wire.
func (*DescribeTopic) Kind() uint16 { return 0x0025 }

// TopicDescribed: reply number 0x8025.
type TopicDescribed struct {
	Topic      TopicInfo       `json:"topic"`
	Partitions []PartitionInfo `json:"partitions"` // by number
}

// Kind is the number of the message on the wire.
func (*TopicDescribed) Kind() uint16 { return 0x8025 }

// CreateUser: request 0x0030.
type CreateUser struct {
	User     string `json:"user"`
	Password []byte `json:"password"` // at least 8 bytes
	Role     Role   `json:"role"`
}

// Kind is the number of the message on the wire.
func (*CreateUser) Kind() uint16 { return 0x0030 }

// UserCreated: reply number 0x8030.
type UserCreated struct {
	User UserInfo `json:"user"`
}

// Kind is the number of the message on the wire.
func (*UserCreated) Kind() uint16 { return 0x8030 }

// AlterUser: changes a password or role. A new password ends the sessions and tickets that the old one opened, the caller's after this reply. A user may change the own password.
type AlterUser struct {
	User     string  `json:"user"`
	Password *[]byte `json:"password"`
	Role     *Role   `json:"role"`
}

// Kind is the number of the message on the wire.
func (*AlterUser) Kind() uint16 { return 0x0031 }

// UserAltered: reply number 0x8031.
type UserAltered struct {
	User UserInfo `json:"user"`
}

// Kind is the number of the message on the wire.
func (*UserAltered) Kind() uint16 { return 0x8031 }

// DeleteUser: deletes a user with its tokens and tickets. The last admin cannot be deleted.
type DeleteUser struct {
	User string `json:"user"`
}

// Kind is the number of the message on the wire.
func (*DeleteUser) Kind() uint16 { return 0x0032 }

// UserDeleted: reply number 0x8032.
type UserDeleted struct {
}

// Kind is the number of the message on the wire.
func (*UserDeleted) Kind() uint16 { return 0x8032 }

// ListUsers: request 0x0033.
type ListUsers struct {
}

// Kind is the number of the message on the wire.
func (*ListUsers) Kind() uint16 { return 0x0033 }

// Users: reply number 0x8033.
type Users struct {
	Users []UserInfo `json:"users"` // by name
}

// Kind is the number of the message on the wire.
func (*Users) Kind() uint16 { return 0x8033 }

// DescribeUser: request 0x0034.
type DescribeUser struct {
	User string `json:"user"`
}

// Kind is the number of the message on the wire.
func (*DescribeUser) Kind() uint16 { return 0x0034 }

// UserDescribed: reply number 0x8034.
type UserDescribed struct {
	User   UserInfo    `json:"user"`
	Tokens []TokenInfo `json:"tokens"`
}

// Kind is the number of the message on the wire.
func (*UserDescribed) Kind() uint16 { return 0x8034 }

// CreateToken: creates a personal access token; its secret is shown this once.
type CreateToken struct {
	Name        string  `json:"name"`
	User        *string `json:"user"` // absent: the caller; another's needs role admin
	ExpiresAtUS *int64  `json:"expires_at_us"`
}

// Kind is the number of the message on the wire.
func (*CreateToken) Kind() uint16 { return 0x0038 }

// TokenCreated: reply number 0x8038.
type TokenCreated struct {
	Token  TokenInfo `json:"token"`
	Secret string    `json:"secret"` // the token's text
}

// Kind is the number of the message on the wire.
func (*TokenCreated) Kind() uint16 { return 0x8038 }

// DeleteToken: revokes a token.
type DeleteToken struct {
	Name string  `json:"name"`
	User *string `json:"user"` // absent: the caller
}

// Kind is the number of the message on the wire.
func (*DeleteToken) Kind() uint16 { return 0x0039 }

// TokenDeleted: reply number 0x8039.
type TokenDeleted struct {
}

// Kind is the number of the message on the wire.
func (*TokenDeleted) Kind() uint16 { return 0x8039 }

// ListTokens: request 0x003a.
type ListTokens struct {
	User *string `json:"user"` // absent: the caller
}

// Kind is the number of the message on the wire.
func (*ListTokens) Kind() uint16 { return 0x003a }

// Tokens: reply number 0x803a.
type Tokens struct {
	Tokens []TokenInfo `json:"tokens"` // by name
}

// Kind is the number of the message on the wire.
func (*Tokens) Kind() uint16 { return 0x803a }

// Status: how the server is.
type Status struct {
}

// Kind is the number of the message on the wire.
func (*Status) Kind() uint16 { return 0x0040 }

// ServerStatus: reply number 0x8040.
type ServerStatus struct {
	ServerVersion      string              `json:"server_version"`
	NodeID             uint32              `json:"node_id"`
	UptimeMS           uint64              `json:"uptime_ms"`
	ShardCount         uint16              `json:"shard_count"`
	DiskBackend        string              `json:"disk_backend"` // io_uring, threads, buffered or simulated
	StreamCount        uint32              `json:"stream_count"`
	TopicCount         uint32              `json:"topic_count"`
	PartitionCount     uint32              `json:"partition_count"`
	ConnectionCount    uint32              `json:"connection_count"`
	SubscriptionCount  uint32              `json:"subscription_count"`
	DiskTotalBytes     uint64              `json:"disk_total_bytes"`
	DiskFreeBytes      uint64              `json:"disk_free_bytes"`
	CacheBytes         uint64              `json:"cache_bytes"`          // in use
	AppendedBytes      uint64              `json:"appended_bytes"`       // since start
	FlushCount         uint64              `json:"flush_count"`          // since start
	FlushP50US         uint32              `json:"flush_p50_us"`         // recent
	FlushP99US         uint32              `json:"flush_p99_us"`         // recent
	ReadOnlyPartitions []ReadOnlyPartition `json:"read_only_partitions"` // at most 100
}

// Kind is the number of the message on the wire.
func (*ServerStatus) Kind() uint16 { return 0x8040 }

// OpenProducer: takes a producer identity. With an earlier one, its next epoch: what the earlier epoch still sends is then fenced.
type OpenProducer struct {
	ProducerID    uint64 `json:"producer_id"`    // 0: a new one
	ProducerEpoch uint32 `json:"producer_epoch"` // the epoch to leave behind; 0 with a new one
}

// Kind is the number of the message on the wire.
func (*OpenProducer) Kind() uint16 { return 0x0100 }

// ProducerOpened: reply number 0x8100.
type ProducerOpened struct {
	ProducerID    uint64 `json:"producer_id"`    // never 0, never given twice
	ProducerEpoch uint32 `json:"producer_epoch"` // 1 for a new one
}

// Kind is the number of the message on the wire.
func (*ProducerOpened) Kind() uint16 { return 0x8100 }

// Produce: appends one batch: its producer part and body.
type Produce struct {
	TopicID    uint32     `json:"topic_id"`
	Partition  uint32     `json:"partition"`
	Durability Durability `json:"durability"` // at least this; the topic's own is the floor
}

// Kind is the number of the message on the wire.
func (*Produce) Kind() uint16 { return 0x0101 }

// ProduceAck: the receipt.
type ProduceAck struct {
	BaseOffset   uint64     `json:"base_offset"` // offset of the first message
	AppendTimeUS int64      `json:"append_time_us"`
	LeaderEpoch  uint32     `json:"leader_epoch"`
	Durability   Durability `json:"durability"` // reached
	Flags        uint8      `json:"flags"`      // 1 duplicate (the offset is the original's), 2 server_encoded
}

// Kind is the number of the message on the wire.
func (*ProduceAck) Kind() uint16 { return 0x8101 }

// Fetch: reads whole batches once; waits up to `max_wait_ms` for `min_bytes`.
type Fetch struct {
	TopicID   uint32   `json:"topic_id"`
	Partition uint32   `json:"partition"`
	Position  Position `json:"position"`
	Epoch     *uint32  `json:"epoch"`     // leader epoch of the last message read; a mismatch answers LOG_TRUNCATED
	MaxBytes  uint32   `json:"max_bytes"` // of batches; at least one is returned
	MinBytes  uint32   `json:"min_bytes"`
	MaxWaitMS uint32   `json:"max_wait_ms"`
}

// Kind is the number of the message on the wire.
func (*Fetch) Kind() uint16 { return 0x0102 }

// Fetched: zero or more stored batches. The first may begin before the asked offset: the client skips.
type Fetched struct {
	StartOffset      uint64 `json:"start_offset"` // what the position came to
	LogStartOffset   uint64 `json:"log_start_offset"`
	VisibleEndOffset uint64 `json:"visible_end_offset"`
	LeaderEpoch      uint32 `json:"leader_epoch"`
}

// Kind is the number of the message on the wire.
func (*Fetched) Kind() uint16 { return 0x8102 }

// Subscribe: starts a push of stored batches.
type Subscribe struct {
	Subscription uint32   `json:"subscription"` // chosen by the client, never reused on a connection
	TopicID      uint32   `json:"topic_id"`
	Partition    uint32   `json:"partition"`
	Position     Position `json:"position"`
	Epoch        *uint32  `json:"epoch"`        // as in Fetch
	CreditBytes  uint64   `json:"credit_bytes"` // stored bytes the server may send; may be overdrawn by one batch
}

// Kind is the number of the message on the wire.
func (*Subscribe) Kind() uint16 { return 0x0103 }

// Subscribed: reply number 0x8103.
type Subscribed struct {
	StartOffset      uint64 `json:"start_offset"` // what the position came to
	LogStartOffset   uint64 `json:"log_start_offset"`
	VisibleEndOffset uint64 `json:"visible_end_offset"`
	LeaderEpoch      uint32 `json:"leader_epoch"`
}

// Kind is the number of the message on the wire.
func (*Subscribed) Kind() uint16 { return 0x8103 }

// Deliver: push: one or more stored batches of a subscription, in order.
type Deliver struct {
	Subscription     uint32 `json:"subscription"`
	LogStartOffset   uint64 `json:"log_start_offset"`
	VisibleEndOffset uint64 `json:"visible_end_offset"`
}

// Kind is the number of the message on the wire.
func (*Deliver) Kind() uint16 { return 0x4103 }

// Credit: notice: more bytes may be sent. Unknown subscriptions are ignored: they may have just ended.
type Credit struct {
	Subscription uint32 `json:"subscription"`
	CreditBytes  uint64 `json:"credit_bytes"` // added to what is left
}

// Kind is the number of the message on the wire.
func (*Credit) Kind() uint16 { return 0x4104 }

// Unsubscribe: ends a subscription; nothing of it is sent after the reply.
type Unsubscribe struct {
	Subscription uint32 `json:"subscription"`
}

// Kind is the number of the message on the wire.
func (*Unsubscribe) Kind() uint16 { return 0x0104 }

// Unsubscribed: reply number 0x8104.
type Unsubscribed struct {
}

// Kind is the number of the message on the wire.
func (*Unsubscribed) Kind() uint16 { return 0x8104 }

// SubscriptionEnded: push: the server ended a subscription. The fields are those of Error.
type SubscriptionEnded struct {
	Subscription uint32   `json:"subscription"`
	Code         uint16   `json:"code"`
	Class        uint8    `json:"class"`
	Flags        uint8    `json:"flags"`
	Message      string   `json:"message"`
	Details      []Detail `json:"details"`
}

// Kind is the number of the message on the wire.
func (*SubscriptionEnded) Kind() uint16 { return 0x4105 }

// ResolvePosition: what offset a position comes to now.
type ResolvePosition struct {
	TopicID   uint32   `json:"topic_id"`
	Partition uint32   `json:"partition"`
	Position  Position `json:"position"`
}

// Kind is the number of the message on the wire.
func (*ResolvePosition) Kind() uint16 { return 0x0105 }

// PositionResolved: reply number 0x8105.
type PositionResolved struct {
	Offset           uint64 `json:"offset"`
	LogStartOffset   uint64 `json:"log_start_offset"`
	VisibleEndOffset uint64 `json:"visible_end_offset"`
	LeaderEpoch      uint32 `json:"leader_epoch"`
}

// Kind is the number of the message on the wire.
func (*PositionResolved) Kind() uint16 { return 0x8105 }

// kinds has an empty message of every kind, for tests and for naming what has come.
var kinds = map[uint16]func() Message{
	0x0001: func() Message { return new(Hello) },
	0x8001: func() Message { return new(Welcome) },
	0x0002: func() Message { return new(Authenticate) },
	0x8002: func() Message { return new(Authenticated) },
	0x0003: func() Message { return new(Ping) },
	0x8003: func() Message { return new(Pong) },
	0xffff: func() Message { return new(Error) },
	0x4001: func() Message { return new(Goodbye) },
	0x0010: func() Message { return new(CreateStream) },
	0x8010: func() Message { return new(StreamCreated) },
	0x0011: func() Message { return new(DeleteStream) },
	0x8011: func() Message { return new(StreamDeleted) },
	0x0012: func() Message { return new(ListStreams) },
	0x8012: func() Message { return new(Streams) },
	0x0013: func() Message { return new(DescribeStream) },
	0x8013: func() Message { return new(StreamDescribed) },
	0x0020: func() Message { return new(CreateTopic) },
	0x8020: func() Message { return new(TopicCreated) },
	0x0021: func() Message { return new(AlterTopic) },
	0x8021: func() Message { return new(TopicAltered) },
	0x0022: func() Message { return new(DeleteTopic) },
	0x8022: func() Message { return new(TopicDeleted) },
	0x0023: func() Message { return new(PurgeTopic) },
	0x8023: func() Message { return new(TopicPurged) },
	0x0024: func() Message { return new(ListTopics) },
	0x8024: func() Message { return new(Topics) },
	0x0025: func() Message { return new(DescribeTopic) },
	0x8025: func() Message { return new(TopicDescribed) },
	0x0030: func() Message { return new(CreateUser) },
	0x8030: func() Message { return new(UserCreated) },
	0x0031: func() Message { return new(AlterUser) },
	0x8031: func() Message { return new(UserAltered) },
	0x0032: func() Message { return new(DeleteUser) },
	0x8032: func() Message { return new(UserDeleted) },
	0x0033: func() Message { return new(ListUsers) },
	0x8033: func() Message { return new(Users) },
	0x0034: func() Message { return new(DescribeUser) },
	0x8034: func() Message { return new(UserDescribed) },
	0x0038: func() Message { return new(CreateToken) },
	0x8038: func() Message { return new(TokenCreated) },
	0x0039: func() Message { return new(DeleteToken) },
	0x8039: func() Message { return new(TokenDeleted) },
	0x003a: func() Message { return new(ListTokens) },
	0x803a: func() Message { return new(Tokens) },
	0x0040: func() Message { return new(Status) },
	0x8040: func() Message { return new(ServerStatus) },
	0x0100: func() Message { return new(OpenProducer) },
	0x8100: func() Message { return new(ProducerOpened) },
	0x0101: func() Message { return new(Produce) },
	0x8101: func() Message { return new(ProduceAck) },
	0x0102: func() Message { return new(Fetch) },
	0x8102: func() Message { return new(Fetched) },
	0x0103: func() Message { return new(Subscribe) },
	0x8103: func() Message { return new(Subscribed) },
	0x4103: func() Message { return new(Deliver) },
	0x4104: func() Message { return new(Credit) },
	0x0104: func() Message { return new(Unsubscribe) },
	0x8104: func() Message { return new(Unsubscribed) },
	0x4105: func() Message { return new(SubscriptionEnded) },
	0x0105: func() Message { return new(ResolvePosition) },
	0x8105: func() Message { return new(PositionResolved) },
}

// bodies are the kinds whose frames carry a body.
var bodies = map[uint16]bool{0x0101: true, 0x8102: true, 0x4103: true}
