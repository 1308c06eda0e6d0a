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
	if err := r.options("options", o); err != nil {
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
	topic, o := r.text("topic"), levada.DefaultTopicOptions()
	if err := r.options("options", o); err != nil {
		return nil, err
	}
	started()
	return one(client.CreateTopic(ctx, topic, o))
}

func alterTopic(ctx context.Context, client *levada.Client, r *reader, started func()) (any, error) {
	topic, o := r.text("topic"), &levada.TopicChanges{}
	if err := r.options("changes", o); err != nil {
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
	topic, o := r.text("topic"), levada.DefaultProducerOptions()
	if err := r.options("options", o); err != nil {
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
	topic, o := r.text("topic"), levada.DefaultConsumerOptions()
	if err := r.options("options", o); err != nil {
		return nil, err
	}
	started()
	k, err := client.Consumer(ctx, topic, o)
	if err == nil {
		a.keep(c.As, k)
	}
	return nothing(err)
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
