package levada

import (
	"context"
	"time"

	"example.org/levada/internal/wire"
)

// TopicOptions is what a topic is created with. Begin with DefaultTopicOptions.
type TopicOptions struct {
	PartitionCount uint32           `option:"partition_count"`
	Durability     Durability       `option:"durability"`
	Compression    TopicCompression `option:"compression"`
	// RetentionBytes is what is kept of each partition; nil keeps all.
	RetentionBytes *uint64 `option:"retention_bytes"`
	// RetentionAge is how long messages are kept; nil is for ever.
	RetentionAge *time.Duration `option:"retention_age_ms"`
	// SegmentBytes is the size at which a segment is sealed; nil is the server's default.
	SegmentBytes *uint64 `option:"segment_bytes"`
}

// DefaultTopicOptions is one partition of durability disk that keeps everything.
func DefaultTopicOptions() *TopicOptions {
	return &TopicOptions{PartitionCount: 1, Durability: Disk}
}

// TopicChanges is what to change of a topic; what is nil stays. Zero makes a retention unlimited, or a size the default.
type TopicChanges struct {
	PartitionCount *uint32           `option:"partition_count"`
	Durability     *Durability       `option:"durability"`
	Compression    *TopicCompression `option:"compression"`
	RetentionBytes *uint64           `option:"retention_bytes"`
	RetentionAge   *time.Duration    `option:"retention_age_ms"`
	SegmentBytes   *uint64           `option:"segment_bytes"`
}

func microseconds(d *time.Duration) *uint64 {
	if d == nil {
		return nil
	}
	us := uint64(max(0, d.Microseconds()))
	return &us
}

// StreamDescription is a stream and its topics, by name.
type StreamDescription struct {
	Stream StreamInfo  `json:"stream"`
	Topics []TopicInfo `json:"topics"`
}

// TopicDescription is a topic and its partitions, by number.
type TopicDescription struct {
	Topic      TopicInfo       `json:"topic"`
	Partitions []PartitionInfo `json:"partitions"`
}

// UserDescription is a user and its tokens.
type UserDescription struct {
	User   UserInfo    `json:"user"`
	Tokens []TokenInfo `json:"tokens"`
}

// NewToken is a token just made, with the secret that is shown this once.
type NewToken struct {
	Token  TokenInfo `json:"token"`
	Secret string    `json:"secret"`
}

// ResolvedPosition is what a position comes to now.
type ResolvedPosition = wire.PositionResolved

// CreateStream creates a stream.
func (c *Client) CreateStream(ctx context.Context, stream string) (StreamInfo, error) {
	var reply wire.StreamCreated
	err := checkName(stream)
	if err == nil {
		err = c.do(ctx, &wire.CreateStream{Stream: stream}, &reply, true)
	}
	return reply.Stream, err
}

// DeleteStream deletes a stream, with its topics if topics is true, and tells how many those were.
func (c *Client) DeleteStream(ctx context.Context, stream string, topics bool) (uint32, error) {
	var reply wire.StreamDeleted
	err := checkName(stream)
	if err == nil {
		err = c.do(ctx, &wire.DeleteStream{Stream: stream, Topics: topics}, &reply, true)
	}
	return reply.TopicCount, err
}

// ListStreams gives all streams, by name.
func (c *Client) ListStreams(ctx context.Context) ([]StreamInfo, error) {
	var reply wire.Streams
	err := c.do(ctx, &wire.ListStreams{}, &reply, false)
	return reply.Streams, err
}

// DescribeStream gives a stream and its topics.
func (c *Client) DescribeStream(ctx context.Context, stream string) (StreamDescription, error) {
	var reply wire.StreamDescribed
	err := checkName(stream)
	if err == nil {
		err = c.do(ctx, &wire.DescribeStream{Stream: stream}, &reply, false)
	}
	return StreamDescription(reply), err
}

// CreateTopic creates "stream/topic", and the stream if it is absent. Nil options are the defaults.
func (c *Client) CreateTopic(ctx context.Context, topic string, options *TopicOptions) (TopicInfo, error) {
	if options == nil {
		options = DefaultTopicOptions()
	}
	var reply wire.TopicCreated
	stream, name, _, err := splitTopic(topic, false)
	if err == nil && (options.PartitionCount < 1 || options.PartitionCount > wire.MaxPartitions) {
		err = usage("partition_count", "partition_count must be 1 to %d", wire.MaxPartitions)
	}
	if err == nil {
		err = c.do(ctx, &wire.CreateTopic{Stream: stream, Topic: name, Options: wire.TopicOptions{
			PartitionCount: options.PartitionCount, Durability: options.Durability, Compression: options.Compression,
			RetentionBytes: options.RetentionBytes, RetentionAgeUS: microseconds(options.RetentionAge), SegmentBytes: options.SegmentBytes,
		}}, &reply, true)
	}
	return reply.Topic, err
}

// AlterTopic changes "stream/topic".
func (c *Client) AlterTopic(ctx context.Context, topic string, changes *TopicChanges) (TopicInfo, error) {
	var reply wire.TopicAltered
	stream, name, _, err := splitTopic(topic, false)
	if err == nil {
		err = c.do(ctx, &wire.AlterTopic{Stream: stream, Topic: name, Changes: wire.TopicChanges{
			PartitionCount: changes.PartitionCount, Durability: changes.Durability, Compression: changes.Compression,
			RetentionBytes: changes.RetentionBytes, RetentionAgeUS: microseconds(changes.RetentionAge), SegmentBytes: changes.SegmentBytes,
		}}, &reply, true)
	}
	return reply.Topic, err
}

// DeleteTopic deletes "stream/topic" and its data.
func (c *Client) DeleteTopic(ctx context.Context, topic string) error {
	stream, name, _, err := splitTopic(topic, false)
	if err == nil {
		err = c.do(ctx, &wire.DeleteTopic{Stream: stream, Topic: name}, &wire.TopicDeleted{}, true)
	}
	return err
}

// PurgeTopic removes every message visible now from "stream/topic", or from one partition with "stream/topic:partition".
func (c *Client) PurgeTopic(ctx context.Context, topic string) error {
	stream, name, partition, err := splitTopic(topic, true)
	if err == nil {
		err = c.do(ctx, &wire.PurgeTopic{Stream: stream, Topic: name, Partition: partition}, &wire.TopicPurged{}, true)
	}
	return err
}

// ListTopics gives the topics of a stream, or of all with nil, by name.
func (c *Client) ListTopics(ctx context.Context, stream *string) ([]TopicInfo, error) {
	var reply wire.Topics
	var err error
	if stream != nil {
		err = checkName(*stream)
	}
	if err == nil {
		err = c.do(ctx, &wire.ListTopics{Stream: stream}, &reply, false)
	}
	return reply.Topics, err
}

// DescribeTopic gives "stream/topic" and its partitions.
func (c *Client) DescribeTopic(ctx context.Context, topic string) (TopicDescription, error) {
	var reply wire.TopicDescribed
	stream, name, _, err := splitTopic(topic, false)
	if err == nil {
		err = c.do(ctx, &wire.DescribeTopic{Stream: stream, Topic: name}, &reply, false)
	}
	return TopicDescription(reply), err
}

// ResolvePosition tells what a position in "stream/topic:partition" comes to now.
func (c *Client) ResolvePosition(ctx context.Context, partition string, position Position) (ResolvedPosition, error) {
	var reply wire.PositionResolved
	stream, name, number, err := splitTopic(partition, true)
	if err == nil && number == nil {
		err = usage("partition", "%q is not of the form stream/topic:partition", partition)
	}
	if err != nil {
		return reply, err
	}
	described, err := c.DescribeTopic(ctx, stream+"/"+name)
	if err == nil {
		err = c.do(ctx, &wire.ResolvePosition{TopicID: described.Topic.TopicID, Partition: *number, Position: position.p}, &reply, false)
	}
	return reply, err
}

// CreateUser creates a user.
func (c *Client) CreateUser(ctx context.Context, user, password string, role Role) (UserInfo, error) {
	var reply wire.UserCreated
	err := checkName(user)
	if err == nil {
		err = c.do(ctx, &wire.CreateUser{User: user, Password: []byte(password), Role: role}, &reply, true)
	}
	return reply.User, err
}

// AlterUser changes the password or the role of a user; what is nil stays. Sessions that a new password replaces end right after.
func (c *Client) AlterUser(ctx context.Context, user string, password *string, role *Role) (UserInfo, error) {
	var reply wire.UserAltered
	request := wire.AlterUser{User: user, Role: role}
	if password != nil {
		secret := []byte(*password)
		request.Password = &secret
	}
	err := checkName(user)
	if err == nil {
		err = c.do(ctx, &request, &reply, true)
	}
	return reply.User, err
}

// DeleteUser deletes a user with its tokens.
func (c *Client) DeleteUser(ctx context.Context, user string) error {
	err := checkName(user)
	if err == nil {
		err = c.do(ctx, &wire.DeleteUser{User: user}, &wire.UserDeleted{}, true)
	}
	return err
}

// ListUsers gives all users, by name.
func (c *Client) ListUsers(ctx context.Context) ([]UserInfo, error) {
	var reply wire.Users
	err := c.do(ctx, &wire.ListUsers{}, &reply, false)
	return reply.Users, err
}

// DescribeUser gives a user and its tokens.
func (c *Client) DescribeUser(ctx context.Context, user string) (UserDescription, error) {
	var reply wire.UserDescribed
	err := checkName(user)
	if err == nil {
		err = c.do(ctx, &wire.DescribeUser{User: user}, &reply, false)
	}
	return UserDescription(reply), err
}

// CreateToken makes a token for the caller, or for another user. Without an expiry, in microseconds since the Unix epoch, it
// never expires.
func (c *Client) CreateToken(ctx context.Context, name string, user *string, expiresAtUS *int64) (NewToken, error) {
	var reply wire.TokenCreated
	err := checkToken(name, user)
	if err == nil {
		err = c.do(ctx, &wire.CreateToken{Name: name, User: user, ExpiresAtUS: expiresAtUS}, &reply, true)
	}
	return NewToken(reply), err
}

// DeleteToken revokes a token of the caller, or of another user.
func (c *Client) DeleteToken(ctx context.Context, name string, user *string) error {
	err := checkToken(name, user)
	if err == nil {
		err = c.do(ctx, &wire.DeleteToken{Name: name, User: user}, &wire.TokenDeleted{}, true)
	}
	return err
}

func checkToken(name string, user *string) error {
	if user != nil {
		if err := checkName(*user); err != nil {
			return err
		}
	}
	return checkName(name)
}

// ListTokens gives the tokens of the caller, or of another user, by name.
func (c *Client) ListTokens(ctx context.Context, user *string) ([]TokenInfo, error) {
	var reply wire.Tokens
	err := c.do(ctx, &wire.ListTokens{User: user}, &reply, false)
	return reply.Tokens, err
}

// Status tells how the server is.
func (c *Client) Status(ctx context.Context) (ServerStatus, error) {
	var reply wire.ServerStatus
	err := c.do(ctx, &wire.Status{}, &reply, false)
	return reply, err
}
