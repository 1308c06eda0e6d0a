package main

import (
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"example.org/levada"
)

// run makes the one call that a command stands for.
func (a *adapter) run(ctx context.Context, c command, started func()) (any, error) {
	args, err := parse(c.Args)
	if err != nil {
		return nil, err
	}
	r := &reader{args: args}
	switch {
	case c.Op == "connect":
		return a.connect(ctx, c, r, started)
	case c.Op == "delivery.wait":
		d, err := handle[*levada.Delivery](a, c.On)
		if err != nil {
			return nil, err
		}
		started()
		return one(d.Wait(ctx))
	case strings.HasPrefix(c.Op, "producer.") && c.Op != "producer.open":
		p, err := handle[*levada.Producer](a, c.On)
		if err != nil {
			return nil, err
		}
		return a.producer(ctx, c, p, r, started)
	case strings.HasPrefix(c.Op, "consumer.") && c.Op != "consumer.open":
		k, err := handle[*levada.Consumer](a, c.On)
		if err != nil {
			return nil, err
		}
		return consumer(ctx, c, k, r, started)
	}
	client, err := handle[*levada.Client](a, c.On)
	if err != nil {
		return nil, err
	}
	switch c.Op {
	case "producer.open":
		return a.openProducer(ctx, c, client, r, started)
	case "consumer.open":
		return a.openConsumer(ctx, c, client, r, started)
	}
	return clientOp(ctx, c, client, r, started)
}

func (a *adapter) connect(ctx context.Context, c command, r *reader, started func()) (any, error) {
	o := levada.DefaultOptions()
	var options arguments
	r.get("options", &options)
	if r.err != nil {
		return nil, r.err
	}
	in := &reader{args: options}
	in.get("server", &o.Server)
	o.User, o.Password, o.Token, o.TokenFile = in.text("user"), in.text("password"), in.text("token"), in.text("token_file")
	o.Anonymous = in.bool("anonymous")
	o.TLSCAFile, o.TLSServerName = in.text("tls_ca_file"), in.text("tls_server_name")
	o.TLSDangerouslyAcceptAnyCertificate = in.bool("tls_dangerously_accept_any_certificate")
	in.duration("connect_timeout_ms", &o.ConnectTimeout)
	in.duration("request_timeout_ms", &o.RequestTimeout)
	in.duration("backoff_floor_ms", &o.BackoffFloor)
	in.duration("backoff_ceiling_ms", &o.BackoffCeiling)
	in.get("client_name", &o.ClientName)
	if err := in.done(); err != nil {
		return nil, err
	}
	started()
	client, err := levada.Connect(ctx, o)
	if err == nil {
		a.keep(c.As, client)
	}
	return nothing(err)
}

// closeTimeout is how long closing waits unless the command says otherwise.
const closeTimeout = 5 * time.Second

func closing(ctx context.Context, r *reader, close func(context.Context) error, started func()) (any, error) {
	timeout := closeTimeout
	r.duration("timeout_ms", &timeout)
	if r.err != nil {
		return nil, r.err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	started()
	return nothing(close(ctx))
}

func clientOp(ctx context.Context, c command, client *levada.Client, r *reader, started func()) (any, error) {
	switch c.Op {
	case "close":
		return closing(ctx, r, client.Close, started)
	case "ping":
		started()
		took, err := client.Ping(ctx)
		return object{"value": strconv.FormatInt(took.Microseconds(), 10)}, err
	case "server_info":
		started()
		return one(client.ServerInfo())
	case "stream.delete":
		stream, topics := r.text("stream"), r.bool("topics")
		started()
		n, err := client.DeleteStream(ctx, stream, topics)
		return object{"value": n}, err
	case "topic.create":
		return createTopic(ctx, client, r, started)
	case "topic.alter":
		return alterTopic(ctx, client, r, started)
	case "position.resolve":
		var p levada.Position
		r.position("position", &p)
		partition := r.text("partition")
		if r.err != nil {
			return nil, r.err
		}
		started()
		return one(client.ResolvePosition(ctx, partition, p))
	case "user.create", "user.alter":
		return changeUser(ctx, c, client, r, started)
	case "token.create":
		name, user := r.text("name"), r.optionalText("user")
		var expires *int64
		var n integer
		if r.get("expires_at_us", &n) {
			us, err := strconv.ParseInt(n.text, 10, 64)
			if err != nil {
				return nil, fault(err.Error())
			}
			expires = &us
		}
		started()
		return one(client.CreateToken(ctx, name, user, expires))
	}
	stream, topic, user, name := r.optionalText("stream"), r.text("topic"), r.optionalText("user"), r.text("name")
	if r.err != nil {
		return nil, r.err
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	started()
	switch c.Op {
	case "stream.create":
		return one(client.CreateStream(ctx, text(stream)))
	case "stream.describe":
		return one(client.DescribeStream(ctx, text(stream)))
	case "stream.list":
		return items(client.ListStreams(ctx))
	case "topic.delete":
		return nothing(client.DeleteTopic(ctx, topic))
	case "topic.purge":
		return nothing(client.PurgeTopic(ctx, topic))
	case "topic.list":
		return items(client.ListTopics(ctx, stream))
	case "topic.describe":
		return one(client.DescribeTopic(ctx, topic))
	case "user.delete":
		return nothing(client.DeleteUser(ctx, text(user)))
	case "user.list":
		return items(client.ListUsers(ctx))
	case "user.describe":
		return one(client.DescribeUser(ctx, text(user)))
	case "token.delete":
		return nothing(client.DeleteToken(ctx, name, user))
	case "token.list":
		return items(client.ListTokens(ctx, user))
	case "status":
		return one(client.Status(ctx))
	}
	return nil, fault("unknown operation " + c.Op)
}

func createTopic(ctx context.Context, client *levada.Client, r *reader, started func()) (any, error) {
	topic := r.text("topic")
	var options arguments
	r.get("options", &options)
	if r.err != nil {
		return nil, r.err
	}
	o, in := levada.DefaultTopicOptions(), &reader{args: options}
	if n := in.optionalUint32("partition_count"); n != nil {
		o.PartitionCount = *n
	}
	enum(in, "durability", levada.ParseDurability, &o.Durability)
	enum(in, "compression", levada.ParseTopicCompression, &o.Compression)
	o.RetentionBytes, o.SegmentBytes = in.optionalUint("retention_bytes"), in.optionalUint("segment_bytes")
	o.RetentionAge = in.optionalDuration("retention_age_ms")
	if err := in.done(); err != nil {
		return nil, err
	}
	started()
	return one(client.CreateTopic(ctx, topic, o))
}

func alterTopic(ctx context.Context, client *levada.Client, r *reader, started func()) (any, error) {
	topic := r.text("topic")
	var changes arguments
	r.get("changes", &changes)
	if r.err != nil {
		return nil, r.err
	}
	in := &reader{args: changes}
	o := &levada.TopicChanges{
		PartitionCount: in.optionalUint32("partition_count"), RetentionBytes: in.optionalUint("retention_bytes"),
		SegmentBytes: in.optionalUint("segment_bytes"), RetentionAge: in.optionalDuration("retention_age_ms"),
	}
	var durability levada.Durability
	if enum(in, "durability", levada.ParseDurability, &durability) {
		o.Durability = &durability
	}
	var compression levada.TopicCompression
	if enum(in, "compression", levada.ParseTopicCompression, &compression) {
		o.Compression = &compression
	}
	if err := in.done(); err != nil {
		return nil, err
	}
	started()
	return one(client.AlterTopic(ctx, topic, o))
}

func changeUser(ctx context.Context, c command, client *levada.Client, r *reader, started func()) (any, error) {
	user, password := r.text("user"), r.optionalText("password")
	var role levada.Role
	given := enum(r, "role", levada.ParseRole, &role)
	if r.err != nil {
		return nil, r.err
	}
	started()
	if c.Op == "user.create" {
		if password == nil {
			password = new(string)
		}
		return one(client.CreateUser(ctx, user, *password, role))
	}
	if given {
		return one(client.AlterUser(ctx, user, password, &role))
	}
	return one(client.AlterUser(ctx, user, password, nil))
}

func (a *adapter) openProducer(ctx context.Context, c command, client *levada.Client, r *reader, started func()) (any, error) {
	topic := r.text("topic")
	var options arguments
	r.get("options", &options)
	if r.err != nil {
		return nil, r.err
	}
	o, in := levada.DefaultProducerOptions(), &reader{args: options}
	in.uint("batch_bytes", &o.BatchBytes)
	in.uint("batch_messages", &o.BatchMessages)
	in.duration("linger_ms", &o.Linger)
	in.uint("max_in_flight", &o.MaxInFlight)
	in.get("idempotent", &o.Idempotent)
	enum(in, "durability", levada.ParseDurability, &o.Durability)
	in.duration("delivery_timeout_ms", &o.DeliveryTimeout)
	in.uint("max_buffered_bytes", &o.MaxBufferedBytes)
	switch codec := in.text("compression"); codec {
	case "", "topic":
	case "none":
		o.Compression = levada.CompressionNone
	case "lz4":
		o.Compression = levada.CompressionLz4
	case "zstd":
		o.Compression = levada.CompressionZstd
	default:
		return nil, fault("no codec " + codec)
	}
	o.CompressionLevel = in.optionalUint32("compression_level")
	if err := in.done(); err != nil {
		return nil, err
	}
	started()
	p, err := client.Producer(ctx, topic, o)
	if err == nil {
		a.keep(c.As, p)
	}
	return nothing(err)
}

func (a *adapter) producer(ctx context.Context, c command, p *levada.Producer, r *reader, started func()) (any, error) {
	switch c.Op {
	case "producer.flush":
		started()
		return nothing(p.Flush(ctx))
	case "producer.close":
		return closing(ctx, r, p.Close, started)
	case "producer.send_batch":
		var list []messageIn
		r.get("messages", &list)
		if r.err != nil {
			return nil, r.err
		}
		messages, err := expand(list)
		if err != nil {
			return nil, err
		}
		started()
		receipts, err := p.SendBatch(ctx, messages)
		if receipts == nil {
			receipts = []levada.BatchReceipt{}
		}
		return object{"receipts": record(receipts)}, err
	}
	var in messageIn
	r.get("message", &in)
	if r.err != nil {
		return nil, r.err
	}
	m, err := in.message(0)
	if err != nil {
		return nil, err
	}
	switch c.Op {
	case "producer.send":
		d, err := p.Enqueue(ctx, m) // Send is Enqueue and Wait; between them it has been submitted
		if err != nil {
			return nil, err
		}
		started()
		return one(d.Wait(ctx))
	case "producer.enqueue":
		started()
		d, err := p.Enqueue(ctx, m)
		if err == nil {
			a.keep(c.As, d)
		}
		return nothing(err)
	}
	return nil, fault("unknown operation " + c.Op)
}

func expand(list []messageIn) ([]*levada.Message, error) {
	var messages []*levada.Message
	for i := range list {
		count := uint64(1)
		if list[i].Count != nil {
			count = *list[i].Count
		}
		for n := uint64(0); n < count; n++ {
			m, err := list[i].message(n)
			if err != nil {
				return nil, err
			}
			messages = append(messages, m)
		}
	}
	return messages, nil
}

func (a *adapter) openConsumer(ctx context.Context, c command, client *levada.Client, r *reader, started func()) (any, error) {
	topic := r.text("topic")
	var options arguments
	r.get("options", &options)
	if r.err != nil {
		return nil, r.err
	}
	o, in := levada.DefaultConsumerOptions(), &reader{args: options}
	in.get("partitions", &o.Partitions)
	in.position("from", &o.From)
	var from map[string]string
	if in.get("partition_from", &from) {
		o.PartitionFrom = map[uint32]levada.Position{}
		for number, text := range from {
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				return nil, fault(err.Error())
			}
			position, err := levada.ParsePosition("partition_from", text)
			if err != nil {
				return nil, err
			}
			o.PartitionFrom[uint32(n)] = position
		}
	}
	o.UntilEnd = in.bool("until_end")
	in.uint("prefetch_bytes", &o.PrefetchBytes)
	o.OnCorrupt = choice(in, "on_corrupt", levada.CorruptStop, map[string]levada.OnCorrupt{"skip": levada.CorruptSkip})
	o.OnTruncated = choice(in, "on_truncated", levada.TruncatedStop, map[string]levada.OnTruncated{"rewind": levada.TruncatedRewind})
	o.OnOutOfRange = choice(in, "on_out_of_range", levada.OutOfRangeStop, map[string]levada.OnOutOfRange{
		"earliest": levada.OutOfRangeEarliest, "latest": levada.OutOfRangeLatest,
	})
	if err := in.done(); err != nil {
		return nil, err
	}
	started()
	k, err := client.Consumer(ctx, topic, o)
	if err == nil {
		a.keep(c.As, k)
	}
	return nothing(err)
}

func choice[T any](r *reader, name string, stop T, others map[string]T) T {
	text := r.text(name)
	if v, ok := others[text]; ok {
		return v
	}
	if text != "" && text != "stop" {
		r.err = fault("no value " + text + " of " + name)
	}
	return stop
}

func consumer(ctx context.Context, c command, k *levada.Consumer, r *reader, started func()) (any, error) {
	partition := r.uint32("partition")
	var position levada.Position
	r.position("position", &position)
	if r.err != nil {
		return nil, r.err
	}
	switch c.Op {
	case "consumer.close":
		return closing(ctx, r, k.Close, started)
	case "consumer.receive":
		return receive(ctx, k, r, started)
	case "consumer.receive_batch":
		return receiveBatch(ctx, k, r, started)
	}
	started()
	switch c.Op {
	case "consumer.seek":
		return nothing(k.Seek(partition, position))
	case "consumer.position":
		next, known, err := k.Position(partition)
		if !known {
			return object{"value": nil}, err
		}
		return object{"value": strconv.FormatUint(next, 10)}, err
	case "consumer.pause":
		return nothing(k.Pause(partition))
	case "consumer.resume":
		return nothing(k.Resume(partition))
	}
	return nil, fault("unknown operation " + c.Op)
}

func receive(ctx context.Context, k *levada.Consumer, r *reader, started func()) (any, error) {
	if timeout := r.optionalDuration("timeout_ms"); timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	if r.err != nil {
		return nil, r.err
	}
	started()
	m, err := k.Receive(ctx)
	if err == io.EOF {
		return object{"message": nil, "finished": true}, nil
	}
	if err != nil {
		return nil, err
	}
	return object{"message": messageOut(m)}, nil
}

func receiveBatch(ctx context.Context, k *levada.Consumer, r *reader, started func()) (any, error) {
	limits := levada.DefaultReceiveLimits()
	r.uint("max_messages", &limits.MaxMessages)
	r.uint("max_bytes", &limits.MaxBytes)
	r.duration("timeout_ms", &limits.Timeout)
	if r.err != nil {
		return nil, r.err
	}
	started()
	list, err := k.ReceiveBatch(ctx, limits)
	messages := []json.RawMessage{}
	for i := range list {
		text, err := json.Marshal(messageOut(&list[i]))
		if err != nil {
			return nil, fault(err.Error())
		}
		messages = append(messages, text)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	return object{"messages": messages, "finished": err == io.EOF}, nil
}
