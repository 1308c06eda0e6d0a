package levada

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"example.org/levada/internal/wire"
)

// Compression is the codec of a producer's batches.
type Compression uint8

// The codecs. CompressionTopic is the topic's own; where this client lacks it, batches are not compressed. CompressionZstd is refused:
// this client does not have it.
const (
	CompressionTopic Compression = iota
	CompressionNone
	CompressionLz4
	CompressionZstd
)

// ProducerOptions tell how a producer batches, numbers and waits. Begin with DefaultProducerOptions.
type ProducerOptions struct {
	// BatchBytes is what a batch aims at before compression; a larger message has a batch for itself.
	BatchBytes uint64 `option:"batch_bytes"`
	// BatchMessages is how many messages a batch holds at most.
	BatchMessages uint64 `option:"batch_messages"`
	// Linger is how long a batch that is not full waits for more; at 0 it leaves as soon as one may be in flight.
	Linger time.Duration `option:"linger_ms"`
	// MaxInFlight is how many batches of a partition may be unacknowledged; the server may allow fewer, and without Idempotent it is 1.
	MaxInFlight uint64      `option:"max_in_flight"`
	Compression Compression `option:"compression"`
	// CompressionLevel is a level of zstd, and an error with another codec.
	CompressionLevel *uint32 `option:"compression_level"`
	// Idempotent numbers batches, so that a retry never duplicates.
	Idempotent bool `option:"idempotent"`
	// Durability is the least an acknowledgement must mean; the topic's own is the floor.
	Durability Durability `option:"durability"`
	// DeliveryTimeout is how long a message may stay unacknowledged, from the call that took it.
	DeliveryTimeout time.Duration `option:"delivery_timeout_ms"`
	// MaxBufferedBytes is what is kept of unacknowledged messages; beyond that calls wait.
	MaxBufferedBytes uint64 `option:"max_buffered_bytes"`
}

// DefaultProducerOptions never duplicates and does not linger.
func DefaultProducerOptions() *ProducerOptions {
	return &ProducerOptions{
		BatchBytes: 1 << 20, BatchMessages: wire.MaxMessagesPerBatch, MaxInFlight: 8, Idempotent: true, Durability: Memory,
		DeliveryTimeout: 2 * time.Minute, MaxBufferedBytes: 64 << 20,
	}
}

func (o *ProducerOptions) check() error {
	switch {
	case o.BatchBytes < 1 || o.BatchBytes > wire.MaxBatchBytes:
		return usage("batch_bytes", "batch_bytes must be 1 to %d", wire.MaxBatchBytes)
	case o.BatchMessages < 1 || o.BatchMessages > wire.MaxMessagesPerBatch:
		return usage("batch_messages", "batch_messages must be 1 to %d", wire.MaxMessagesPerBatch)
	case o.Linger < 0:
		return usage("linger_ms", "linger_ms is negative")
	case o.MaxInFlight < 1 || o.MaxInFlight > wire.MaxInFlight:
		return usage("max_in_flight", "max_in_flight must be 1 to %d", wire.MaxInFlight)
	case o.CompressionLevel != nil && (o.Compression != CompressionZstd || *o.CompressionLevel < 1 || *o.CompressionLevel > 19):
		return usage("compression_level", "compression_level is 1 to 19, with zstd only")
	case o.Compression == CompressionZstd:
		return fail(CodeUnsupported, nil, "this client does not have zstd", "what", "zstd")
	case o.Compression > CompressionZstd:
		return usage("compression", "there is no such codec")
	case o.Durability > Quorum:
		return usage("durability", "there is no such durability")
	case o.DeliveryTimeout < time.Millisecond:
		return usage("delivery_timeout_ms", "delivery_timeout_ms must be at least 1 ms")
	case o.MaxBufferedBytes < 1:
		return usage("max_buffered_bytes", "max_buffered_bytes must be at least 1")
	}
	return nil
}

// Producer sends messages to one topic. Messages of one key, and messages for one partition, keep the order in which they
// were handed over.
type Producer struct {
	client  *Client
	topic   string
	options ProducerOptions
	ctx     context.Context // ends with the producer
	cancel  context.CancelFunc
	running sync.WaitGroup
	buffer  budget
	failure atomic.Pointer[Error] // why the producer ended by itself: FENCED

	refreshing sync.Mutex // held while the topic is described
	mu         sync.Mutex
	closed     bool
	described  *conn // where the topic was described last
	info       TopicInfo
	lanes      map[uint32]*lane
	sticky     *batch // where messages without a key go until it is sealed
	stickyLane uint32
}

// Producer makes a producer to "stream/topic". Nil options are the defaults.
func (c *Client) Producer(ctx context.Context, topic string, options *ProducerOptions) (*Producer, error) {
	if options == nil {
		options = DefaultProducerOptions()
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	p := &Producer{client: c, topic: topic, options: *options, lanes: map[uint32]*lane{}}
	p.buffer.limit = options.MaxBufferedBytes
	if !options.Idempotent {
		p.options.MaxInFlight = 1
	}
	if err := p.describe(ctx, nil); err != nil {
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := c.adopt(p); err != nil {
		p.cancel()
		return nil, err
	}
	return p, nil
}

// describe asks for the topic's id and partitions, once for each connection on. Nil asks in any case.
func (p *Producer) describe(ctx context.Context, on *conn) error {
	p.refreshing.Lock()
	defer p.refreshing.Unlock()
	p.mu.Lock()
	known := on != nil && p.described == on
	p.mu.Unlock()
	if known {
		return nil
	}
	d, err := p.client.DescribeTopic(ctx, p.topic)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info = d.Topic
	p.info.Options.PartitionCount = uint32(len(d.Partitions))
	p.described = on
	return nil
}

func (p *Producer) topicInfo() TopicInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// Delivery is the acknowledgement to come of a message that was handed over.
type Delivery struct {
	batch *batch
	index uint32
}

// Done is closed when the message has been acknowledged or has failed; Wait then answers at once.
func (d *Delivery) Done() <-chan struct{} { return d.batch.done }

// Wait waits for the acknowledgement. Giving it up does not take the message back.
func (d *Delivery) Wait(ctx context.Context) (Receipt, error) {
	select {
	case <-d.batch.done:
	case <-ctx.Done():
		return Receipt{}, contextError(ctx, "while the message was on its way").maybe()
	}
	if d.batch.err != nil {
		return Receipt{}, d.batch.err
	}
	r := d.batch.receipt
	receipt := Receipt{
		Partition: r.Partition, Offset: r.BaseOffset, AppendTimeUS: r.AppendTimeUS, Durability: r.Durability, Duplicate: r.Duplicate,
		ServerEncoded: r.ServerEncoded,
	}
	if r.BaseOffset != nil {
		offset := *r.BaseOffset + uint64(d.index)
		receipt.Offset = &offset
	}
	return receipt, nil
}

// Send sends one message and waits for its acknowledgement.
func (p *Producer) Send(ctx context.Context, m *Message) (Receipt, error) {
	d, err := p.Enqueue(ctx, m)
	if err != nil {
		return Receipt{}, err
	}
	return d.Wait(ctx)
}

// Enqueue copies a message into a batch and gives its acknowledgement to come. It waits only while the buffer is full.
func (p *Producer) Enqueue(ctx context.Context, m *Message) (*Delivery, error) {
	deliveries, err := p.enqueue(ctx, []*Message{m})
	if err != nil {
		return nil, err
	}
	return &deliveries[0], nil
}

// SendBatch sends messages and waits for their acknowledgements. If some fail, the error is that of the first that did, and
// the others may have been appended.
func (p *Producer) SendBatch(ctx context.Context, messages []*Message) ([]BatchReceipt, error) {
	deliveries, err := p.enqueue(ctx, messages)
	if err != nil {
		return nil, err
	}
	var receipts []BatchReceipt
	var failed error
	at := map[*batch]int{} // where a batch's receipt is, as long as its messages are next to each other
	next := map[*batch]uint32{}
	for i := range deliveries {
		d := &deliveries[i]
		receipt, err := d.Wait(ctx)
		if err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		if n, ok := at[d.batch]; ok && next[d.batch] == d.index {
			receipts[n].MessageCount++
		} else {
			at[d.batch] = len(receipts)
			receipts = append(receipts, BatchReceipt{
				Partition: receipt.Partition, BaseOffset: receipt.Offset, MessageCount: 1, AppendTimeUS: receipt.AppendTimeUS,
				Durability: receipt.Durability, Duplicate: receipt.Duplicate, ServerEncoded: receipt.ServerEncoded,
			})
		}
		next[d.batch] = d.index + 1
	}
	return receipts, failed
}

// pending is a message that has been checked and copied.
type pending struct {
	record    wire.Record
	size      int
	partition *uint32
	at        int // its place in the call
}

// enqueue hands messages over, as many at a time as the buffer takes. Nothing is handed over if one of them cannot be sent.
func (p *Producer) enqueue(ctx context.Context, messages []*Message) ([]Delivery, error) {
	checked := make([]pending, len(messages))
	now := time.Now()
	for i, m := range messages {
		c, err := p.check(m, now)
		if err != nil {
			return nil, err
		}
		c.at = i
		checked[i] = c
	}
	if err := p.place(ctx, checked); err != nil {
		return nil, err
	}
	deliveries := make([]Delivery, len(messages))
	for done := 0; done < len(checked); {
		part, size := checked[done:done+1], uint64(checked[done].size)
		for done+len(part) < len(checked) && size+uint64(checked[done+len(part)].size) <= p.options.MaxBufferedBytes/2 {
			size += uint64(checked[done+len(part)].size)
			part = checked[done : done+len(part)+1]
		}
		err := p.buffer.take(ctx, p.ctx, size)
		if err == nil {
			err = p.append(part, now, deliveries)
		}
		if err != nil && done > 0 {
			return nil, err.maybe() // what came before is on its way
		}
		if err != nil {
			return nil, err
		}
		done += len(part)
	}
	return deliveries, nil
}

// check copies a message, or says why it cannot be sent.
func (p *Producer) check(m *Message, now time.Time) (pending, error) {
	c := pending{partition: m.Partition}
	limit := uint64(p.limits().MaxPayloadBytes)
	switch {
	case uint64(len(m.Payload)) > limit:
		return c, tooLarge("a payload", limit, uint64(len(m.Payload)))
	case len(m.Key) > wire.MaxKeyBytes:
		return c, tooLarge("a key", wire.MaxKeyBytes, uint64(len(m.Key)))
	}
	headers, err := wire.AppendHeaders(nil, m.Headers)
	if err == wire.ErrHeadersTooLong {
		return c, tooLarge("the headers", wire.MaxHeadersBytes, headersSize(m.Headers))
	} else if err != nil {
		return c, usage("headers", "%v", err)
	}
	c.record.TimestampUS = now.UnixMicro()
	if m.TimestampUS != nil {
		c.record.TimestampUS = *m.TimestampUS
	}
	c.record.Payload, c.record.Key = clone(m.Payload), clone(m.Key)
	if m.ID != nil {
		id := *m.ID
		c.record.ID = &id
	}
	for _, h := range m.Headers {
		if b, ok := h.Value.([]byte); ok {
			h.Value = append([]byte{}, b...)
		}
		c.record.Headers = append(c.record.Headers, h)
	}
	c.size = wire.RecordBytes(&c.record, len(headers))
	return c, nil
}

func headersSize(headers []Header) uint64 {
	size := uint64(2)
	for _, h := range headers {
		size += uint64(2 + len(h.Name))
		switch v := h.Value.(type) {
		case string:
			size += 2 + uint64(len(v))
		case []byte:
			size += 2 + uint64(len(v))
		case bool:
			size++
		default:
			size += 8
		}
	}
	return size
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

func (p *Producer) limits() ServerInfo {
	p.client.mu.Lock()
	defer p.client.mu.Unlock()
	return p.client.info
}

// place checks partitions that were asked for and derives those of keys.
func (p *Producer) place(ctx context.Context, messages []pending) error {
	count := p.topicInfo().Options.PartitionCount
	for i := range messages {
		m := &messages[i]
		if m.partition == nil && m.record.Key != nil {
			n := wire.KeyPartition(m.record.Key, count)
			m.partition = &n
		}
		if m.partition != nil && *m.partition >= count { // it may be new
			if err := p.describe(ctx, nil); err != nil {
				return err
			}
			if count = p.topicInfo().Options.PartitionCount; *m.partition >= count {
				return fail(CodePartitionNotFound, nil, fmt.Sprintf("%s has no partition %d", p.topic, *m.partition), "partition", fmt.Sprint(*m.partition))
			}
		}
	}
	return nil
}

// append puts messages into open batches. The buffer has room for them.
func (p *Producer) append(messages []pending, now time.Time, deliveries []Delivery) *Error {
	total := uint64(0)
	for i := range messages {
		total += uint64(messages[i].size)
	}
	limit := min(p.options.BatchBytes, uint64(max(p.limits().MaxBatchBytes, wire.BatchHeadBytes))-wire.BatchHeadBytes)
	p.mu.Lock()
	if e := p.failure.Load(); p.closed || e != nil {
		p.mu.Unlock()
		p.buffer.give(total)
		if e != nil {
			return e
		}
		return closedError("producer")
	}
	lanes := map[*lane][]*pending{}
	for i := range messages {
		m := &messages[i]
		number := p.stickyLane
		if m.partition != nil {
			number = *m.partition
		} else if p.sticky == nil || p.sticky.isSealed() {
			// Messages without a key stay together in one batch; the next batch goes to the next partition.
			p.stickyLane = (p.stickyLane + 1) % max(1, p.info.Options.PartitionCount)
			number = p.stickyLane
			p.sticky = p.lane(number).current(now)
		}
		l := p.lane(number)
		lanes[l] = append(lanes[l], m)
	}
	p.mu.Unlock()
	for l, list := range lanes {
		l.append(list, limit, now, deliveries)
	}
	return nil
}

// lane gives the lane of a partition; p.mu is held.
func (p *Producer) lane(number uint32) *lane {
	l := p.lanes[number]
	if l == nil {
		l = &lane{p: p, partition: number, wake: make(chan struct{}, 1)}
		l.wait = backoff{floor: p.client.options.BackoffFloor, ceiling: p.client.options.BackoffCeiling}
		p.lanes[number] = l
		p.running.Add(1)
		go l.run()
	}
	return l
}

func (p *Producer) allLanes() []*lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	lanes := make([]*lane, 0, len(p.lanes))
	for _, l := range p.lanes {
		lanes = append(lanes, l)
	}
	return lanes
}

// Flush waits until everything handed over before is settled, be it acknowledged or failed; open batches do not linger.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return closedError("producer")
	}
	return p.settle(ctx)
}

func (p *Producer) settle(ctx context.Context) error {
	var waiting []*batch
	for _, l := range p.allLanes() {
		waiting = append(waiting, l.flush()...)
	}
	for _, b := range waiting {
		select {
		case <-b.done:
		case <-ctx.Done():
			return contextError(ctx, "while messages were on their way").maybe()
		}
	}
	return nil
}

// Close takes no more messages and waits until those taken are settled, or until ctx ends: they then fail with CLOSED.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	err := p.settle(ctx)
	p.cancel()
	p.running.Wait()
	p.client.forget(p)
	return err
}

// fence ends the producer: another has taken its identity over.
func (p *Producer) fence(e *Error) {
	p.failure.CompareAndSwap(nil, e)
	for _, l := range p.allLanes() {
		l.signal()
	}
}

// budget is a number of bytes that calls wait for, in the order they came.
type budget struct {
	mu      sync.Mutex
	limit   uint64
	used    uint64
	waiting []*claim
}

type claim struct {
	bytes   uint64
	granted chan struct{}
}

// take waits for room. More than the limit is granted when nothing else is used.
func (b *budget) take(ctx, producer context.Context, bytes uint64) *Error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.fits(bytes) {
		b.used += bytes
		b.mu.Unlock()
		return nil
	}
	c := &claim{bytes: bytes, granted: make(chan struct{})}
	b.waiting = append(b.waiting, c)
	b.mu.Unlock()
	var err *Error
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		err = contextError(ctx, "while the producer's buffer was full")
	case <-producer.Done():
		err = closedError("producer")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.granted:
		return nil // it came at the same time
	default:
	}
	for i, w := range b.waiting {
		if w == c {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			break
		}
	}
	b.grant()
	return err
}

func (b *budget) fits(bytes uint64) bool {
	return b.used == 0 || bytes <= math.MaxUint64-b.used && b.used+bytes <= b.limit
}

func (b *budget) give(bytes uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	b.grant()
}

func (b *budget) grant() {
	for len(b.waiting) > 0 && b.fits(b.waiting[0].bytes) {
		b.used += b.waiting[0].bytes
		close(b.waiting[0].granted)
		b.waiting = b.waiting[1:]
	}
}
