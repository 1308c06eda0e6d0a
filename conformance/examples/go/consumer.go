package levada

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"time"

	"example.org/levada/internal/wire"
)

// OnCorrupt is what a consumer does about a stored batch whose bytes are damaged.
type OnCorrupt uint8

// Fail with CORRUPT_BATCH, or go on after the batch.
const (
	CorruptStop OnCorrupt = iota
	CorruptSkip
)

// OnTruncated is what a consumer does when the log lost messages it has read.
type OnTruncated uint8

// Fail with LOG_TRUNCATED, or go on from where the logs part.
const (
	TruncatedStop OnTruncated = iota
	TruncatedRewind
)

// OnOutOfRange is what a consumer does when its position is not in the log.
type OnOutOfRange uint8

// Fail with OFFSET_OUT_OF_RANGE, or go on at either end.
const (
	OutOfRangeStop OnOutOfRange = iota
	OutOfRangeEarliest
	OutOfRangeLatest
)

// ConsumerOptions tell what a consumer reads. Begin with DefaultConsumerOptions.
type ConsumerOptions struct {
	// Partitions are those to read; nil is all there are when the consumer is made.
	Partitions []uint32 `option:"partitions"`
	// From is where to start; PartitionFrom is where to start in single partitions.
	From          Position            `option:"from"`
	PartitionFrom map[uint32]Position `option:"partition_from"`
	// UntilEnd stops at the end of each partition as it was when the consumer subscribed.
	UntilEnd bool `option:"until_end"`
	// PrefetchBytes are kept ready, for all partitions together; one batch per partition may come on top.
	PrefetchBytes uint64       `option:"prefetch_bytes"`
	OnCorrupt     OnCorrupt    `option:"on_corrupt"`
	OnTruncated   OnTruncated  `option:"on_truncated"`
	OnOutOfRange  OnOutOfRange `option:"on_out_of_range"`
}

// DefaultConsumerOptions follow every partition from its end.
func DefaultConsumerOptions() *ConsumerOptions {
	return &ConsumerOptions{From: Latest(), PrefetchBytes: 16 << 20}
}

// Consumer reads messages of one topic: of each partition in order, of several in turns. It reconnects by itself and goes on
// where it was.
type Consumer struct {
	client  *Client
	options ConsumerOptions
	topicID uint32
	share   uint64 // bytes a partition may have prefetched
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	receiving chan struct{} // holds one element while a receive is under way
	ready     chan struct{} // something has happened that a receive may wait for
	wake      chan struct{} // there is something to do for run
	opened    chan struct{} // closed once every partition has had its first answer

	mu       sync.Mutex
	closed   bool
	failure  *Error // why the consumer cannot go on at all
	readers  []*reader
	turn     int
	answered int
}

// reader is one partition of a consumer; the consumer's lock guards it.
type reader struct {
	k         *Consumer
	partition uint32
	from      wire.Position // where to subscribe
	epoch     *uint32       // of the last message read, if from comes right after it
	live      *subscription
	retryAt   time.Time
	wait      backoff
	answered  bool
	damaged   int // batches in a row that failed their checksum

	known    bool   // next and fetch are
	next     uint64 // offset of the next message to hand out
	fetch    uint64 // offset after the last batch received
	end      *uint64
	finished bool
	paused   bool
	err      *Error // shown once everything received has been handed out

	queue   []*wire.Batch
	sizes   []uint64 // of the batches in queue
	queued  uint64   // their sum and size
	current []wire.Record
	batch   *wire.Batch // that current is from
	size    uint64
	owed    uint64 // bytes consumed and not yet granted again
}

// maxDamaged is how often a batch may come damaged before its reader gives up.
const maxDamaged = 3

// subscription is one Subscribe of a reader. It is given up by forgetting it.
type subscription struct {
	r        *reader
	conn     *conn
	id       uint32
	answered bool
	credit   int64 // what the server may still send
}

// Consumer makes a consumer of "stream/topic", or of one partition with "stream/topic:partition". Nil options are the defaults.
// It returns when the server has told where each partition starts; what is appended from then on is seen also from Latest.
func (c *Client) Consumer(ctx context.Context, topic string, options *ConsumerOptions) (*Consumer, error) {
	if options == nil {
		options = DefaultConsumerOptions()
	}
	if options.PrefetchBytes < 1 {
		return nil, usage("prefetch_bytes", "prefetch_bytes must be at least 1")
	}
	if options.OnCorrupt > CorruptSkip || options.OnTruncated > TruncatedRewind || options.OnOutOfRange > OutOfRangeLatest {
		return nil, usage("options", "an option of the consumer is out of range")
	}
	stream, name, single, err := splitTopic(topic, true)
	if err != nil {
		return nil, err
	}
	d, err := c.DescribeTopic(ctx, stream+"/"+name)
	if err != nil {
		return nil, err
	}
	k := &Consumer{
		client: c, options: *options, topicID: d.Topic.TopicID, receiving: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), opened: make(chan struct{}),
	}
	if err := k.choose(topic, single, uint32(len(d.Partitions))); err != nil {
		return nil, err
	}
	k.share = max(1, options.PrefetchBytes/uint64(len(k.readers)))
	k.ctx, k.cancel = context.WithCancel(context.Background())
	if err := c.adopt(k); err != nil {
		k.cancel()
		return nil, err
	}
	k.running.Add(1)
	go k.run()
	timer := time.NewTimer(c.options.RequestTimeout)
	defer timer.Stop()
	select {
	case <-k.opened:
		return k, nil
	case <-ctx.Done():
		err = contextError(ctx, "while subscribing")
	case <-timer.C:
		err = fail(CodeClientTimeout, nil, "no answer in time, while subscribing")
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = k.Close(gone)
	return nil, err
}

// choose makes a reader for each partition asked for.
func (k *Consumer) choose(topic string, single *uint32, count uint32) error {
	partitions := k.options.Partitions
	if single != nil {
		if partitions != nil {
			return usage("partitions", "partitions are given twice")
		}
		partitions = []uint32{*single}
	} else if partitions == nil {
		for n := uint32(0); n < count; n++ {
			partitions = append(partitions, n)
		}
	}
	if len(partitions) == 0 {
		return usage("partitions", "no partition is given")
	}
	chosen := map[uint32]bool{}
	for _, n := range partitions {
		if n >= count {
			return fail(CodePartitionNotFound, nil, fmt.Sprintf("%s has no partition %d", topic, n), "partition", fmt.Sprint(n))
		}
		if chosen[n] {
			return usage("partitions", "partition %d is given twice", n)
		}
		chosen[n] = true
		from, ok := k.options.PartitionFrom[n]
		if !ok {
			from = k.options.From
		}
		k.readers = append(k.readers, &reader{
			k: k, partition: n, from: from.p,
			wait: backoff{floor: k.client.options.BackoffFloor, ceiling: k.client.options.BackoffCeiling},
		})
	}
	for n := range k.options.PartitionFrom {
		if !chosen[n] {
			return usage("partition_from", "partition %d is not read", n)
		}
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run subscribes what is not subscribed and grants credit, until the consumer is closed.
func (k *Consumer) run() {
	defer k.running.Done()
	timer := time.NewTimer(forever)
	defer timer.Stop()
	for {
		lost, wait, err := k.work()
		if err != nil && k.ctx.Err() == nil {
			k.mu.Lock()
			k.failure = err
			k.answerAll()
			k.mu.Unlock()
			signal(k.ready)
			<-k.ctx.Done()
			return
		}
		timer.Reset(wait)
		select {
		case <-k.ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		case <-lost:
		}
	}
}

// work does what is to be done now. It gives the end of the connection in use, to be woken by it.
func (k *Consumer) work() (lost <-chan struct{}, wait time.Duration, failed *Error) {
	k.mu.Lock()
	wait = forever
	now := time.Now()
	var idle []*reader
	credits := map[*subscription]uint64{}
	for _, r := range k.readers {
		if r.live != nil && !r.live.conn.alive() {
			r.detach()
		}
		switch {
		case r.live != nil:
			lost = r.live.conn.ended
			if r.owed > 0 && r.live.answered && (r.owed >= k.share/2 || r.live.credit <= 0) {
				credits[r.live] = r.owed
				r.live.credit = addCredit(r.live.credit, r.owed)
				r.owed = 0
			}
		case r.finished || r.err != nil:
		case r.retryAt.After(now):
			wait = min(wait, r.retryAt.Sub(now))
		default:
			idle = append(idle, r)
		}
	}
	k.mu.Unlock()
	for s, bytes := range credits {
		s.conn.notice(&wire.Credit{Subscription: s.id, CreditBytes: bytes})
	}
	if len(idle) == 0 {
		return lost, wait, nil
	}
	conn, err := k.client.acquire(k.ctx)
	if err != nil {
		e := asError(err)
		if !e.Retriable {
			return nil, 0, e
		}
		return nil, k.client.options.BackoffFloor, nil
	}
	for _, r := range idle {
		k.subscribe(conn, r)
	}
	return conn.ended, wait, nil
}

func addCredit(credit int64, bytes uint64) int64 {
	if sum := uint64(max(credit, 0)) + bytes; credit > 0 && sum > math.MaxInt64 || bytes > math.MaxInt64 {
		return math.MaxInt64
	}
	return credit + int64(bytes)
}

// subscribe asks for a partition from where its reader is.
func (k *Consumer) subscribe(conn *conn, r *reader) {
	s := &subscription{r: r, conn: conn}
	var failed *Error
	if s.id, failed = conn.newSubscription(s); failed != nil {
		signal(k.wake)
		return
	}
	k.mu.Lock()
	if r.live != nil || k.closed {
		k.mu.Unlock()
		return
	}
	credit := uint64(0)
	if k.share > r.queued+r.size {
		credit = k.share - r.queued - r.size
	}
	r.live, r.owed, s.credit = s, 0, addCredit(0, credit)
	request := wire.Subscribe{
		Subscription: s.id, TopicID: k.topicID, Partition: r.partition, Position: r.from, Epoch: r.epoch, CreditBytes: credit,
	}
	k.mu.Unlock()
	failed = conn.start(k.ctx, &request, [2][]byte{}, func(f *wire.Frame, e *Error) { s.subscribed(f, e) })
	if failed != nil {
		k.mu.Lock()
		if r.live == s {
			r.live = nil
		}
		k.mu.Unlock()
		signal(k.wake)
	}
}

func (c *conn) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.subs, id)
}

// cancel ends the subscription at the server; nobody waits for the answer.
func (s *subscription) cancel() {
	s.conn.forget(s.id)
	_ = s.conn.start(context.Background(), &wire.Unsubscribe{Subscription: s.id}, [2][]byte{}, func(*wire.Frame, *Error) {})
}

// subscribed takes the answer to Subscribe, before anything is delivered.
func (s *subscription) subscribed(f *wire.Frame, e *Error) {
	var m wire.Subscribed
	if e == nil {
		if err := wire.Decode(f.Control, &m); err != nil {
			e = asError(badFrame(err))
			e.Retriable = true
			go s.conn.end(e)
		}
	}
	r, k := s.r, s.r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	s.answered = true
	if r.live != s { // it was given up meanwhile
		if e == nil {
			go s.cancel()
		}
		return
	}
	if !r.answered {
		r.answered = true
		if k.answered++; k.answered == len(k.readers) {
			close(k.opened)
		}
	}
	if e != nil {
		s.conn.forget(s.id)
		r.stopped(e)
		return
	}
	r.wait.next = 0
	if !r.known {
		r.known, r.next, r.fetch = true, m.StartOffset, m.StartOffset
	}
	if k.options.UntilEnd && r.end == nil {
		end := m.VisibleEndOffset
		r.end = &end
	}
	r.checkEnd()
	signal(k.wake)
}

// answerAll lets the call that makes the consumer return; k.mu is held.
func (k *Consumer) answerAll() {
	if k.answered < len(k.readers) {
		k.answered = len(k.readers)
		for _, r := range k.readers {
			r.answered = true
		}
		close(k.opened)
	}
}

// deliver takes batches from the connection's goroutine. It verifies them, so that what is damaged on the way costs the connection
// and not the reader: the next connection brings it again.
func (s *subscription) deliver(_ *conn, m *wire.Deliver, body []byte) error {
	r, k := s.r, s.r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.live != s {
		return nil
	}
	for len(body) > 0 {
		if s.credit <= 0 {
			return fail(CodeBadFrame, nil, fmt.Sprintf("the server sends beyond the credit of subscription %d", m.Subscription))
		}
		b, rest, err := wire.ParseStored(body, wire.MaxBatchBytes)
		if err != nil {
			return s.unreadable(b, err)
		}
		r.damaged = 0
		if b.NextOffset() <= r.fetch || len(r.queue) > 0 && b.BaseOffset < r.fetch {
			return fail(CodeBadFrame, nil, fmt.Sprintf("the server sends offset %d of a subscription that is at %d", b.BaseOffset, r.fetch))
		}
		size := uint64(len(body) - len(rest))
		s.credit -= int64(size)
		r.queue, r.sizes = append(r.queue, b), append(r.sizes, size)
		r.queued += size
		epoch := b.LeaderEpoch
		r.fetch, r.epoch = b.NextOffset(), &epoch
		r.from = wire.Position{Kind: wire.PositionKindOffset, Value: r.fetch}
		body = rest
	}
	signal(k.ready)
	return nil
}

// unreadable takes a batch that cannot be read; b is nil if not even its server part can. It gives an error to end the connection with.
func (s *subscription) unreadable(b *wire.Batch, err error) error {
	r := s.r
	r.damaged++
	if again := b == nil || errors.Is(err, wire.ErrDamaged); again && r.damaged < maxDamaged {
		return err // it may be the way that damages it
	}
	r.damaged = 0
	if b == nil || b.NextOffset() <= r.fetch {
		r.live = nil
		r.err = asError(badFrame(err))
		signal(r.k.ready)
		return err
	}
	go s.cancel()
	r.stopped(corrupt(b, err))
	return nil
}

func corrupt(b *wire.Batch, err error) *Error {
	return fail(CodeCorruptBatch, err, fmt.Sprintf("a batch cannot be read: %v", err),
		"first_offset", strconv.FormatUint(b.BaseOffset, 10), "next_offset", strconv.FormatUint(b.NextOffset(), 10))
}

// ended takes the end of a subscription that the server decided on.
func (s *subscription) ended(_ *conn, e *Error) {
	k := s.r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.r.live == s {
		s.r.stopped(e)
	}
}

// detach forgets a subscription whose connection is gone; the reader goes on after what it has.
func (r *reader) detach() {
	r.live = nil
	if r.known {
		r.from = wire.Position{Kind: wire.PositionKindOffset, Value: r.fetch}
	}
}

// stopped decides how to go on after an error of a subscription.
func (r *reader) stopped(e *Error) {
	k := r.k
	r.detach()
	defer signal(k.wake)
	defer signal(k.ready)
	o := &k.options
	switch {
	case e.Code == CodeCorruptBatch && o.OnCorrupt == CorruptSkip:
		if next, ok := e.number("next_offset"); ok && (!r.known || next > r.fetch) {
			r.jump(wire.Position{Kind: wire.PositionKindOffset, Value: next})
			if r.known {
				r.fetch = next
				r.checkEnd()
			}
			return
		}
	case e.Code == CodeLogTruncated && o.OnTruncated == TruncatedRewind:
		if at, ok := e.number("divergence_offset"); ok {
			r.drop()
			r.known = false
			r.jump(wire.Position{Kind: wire.PositionKindOffset, Value: at})
			return
		}
	case e.Code == CodeOffsetOutOfRange && o.OnOutOfRange != OutOfRangeStop:
		r.known = r.known && len(r.queue)+len(r.current) > 0
		kind := wire.PositionKindEarliest
		if o.OnOutOfRange == OutOfRangeLatest {
			kind = wire.PositionKindLatest
		}
		if r.known { // what was received is still handed out; it lies before the log's start
			r.fetch = 0
		}
		r.jump(wire.Position{Kind: kind})
		return
	case e.Retriable, e.Code == CodeBadFrame: // the latter ended the connection: another one may do better
		r.retryAt = time.Now().Add(r.wait.step(e))
		return
	case e.Code == CodeClosed:
		return
	}
	r.err = e
}

// jump goes to a position that need not come after what was read.
func (r *reader) jump(to wire.Position) {
	r.from, r.epoch = to, nil
}

// drop throws away what was received and not handed out.
func (r *reader) drop() {
	r.owed += r.queued + r.size
	r.queue, r.sizes, r.queued, r.current, r.batch, r.size = nil, nil, 0, nil, nil, 0
}

// checkEnd finishes a reader that has handed out all there was at its start.
func (r *reader) checkEnd() {
	if r.end == nil || len(r.queue) > 0 || len(r.current) > 0 || !r.known || max(r.next, r.fetch) < *r.end {
		return
	}
	r.finish()
}

func (r *reader) finish() {
	r.finished = true
	r.drop()
	if s := r.live; s != nil {
		r.live = nil
		if s.answered {
			go s.cancel()
		}
	}
	signal(r.k.ready)
}

// reader finds the reader of a partition; k.mu is held.
func (k *Consumer) reader(partition uint32) (*reader, *Error) {
	if k.closed {
		return nil, closedError("consumer")
	}
	for _, r := range k.readers {
		if r.partition == partition {
			return r, nil
		}
	}
	return nil, fail(CodePartitionNotFound, nil, fmt.Sprintf("this consumer does not read partition %d", partition), "partition", fmt.Sprint(partition))
}

// Receive gives the next message, or io.EOF at the end that UntilEnd asks for. Given up, it loses nothing. The message's bytes
// share memory with others of its batch.
func (k *Consumer) Receive(ctx context.Context) (*Received, error) {
	list, err := k.receive(ctx, ReceiveLimits{MaxMessages: 1, MaxBytes: math.MaxUint64})
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

// ReceiveLimits bound what ReceiveBatch gives.
type ReceiveLimits struct {
	// MaxMessages is how many messages at most.
	MaxMessages uint64
	// MaxBytes is about how many bytes of keys and payloads.
	MaxBytes uint64
	// Timeout is how long to wait for the first message.
	Timeout time.Duration
}

// DefaultReceiveLimits are a thousand messages, 4 MiB and a second.
func DefaultReceiveLimits() *ReceiveLimits {
	return &ReceiveLimits{MaxMessages: 1000, MaxBytes: 4 << 20, Timeout: time.Second}
}

// ReceiveBatch gives the next messages: as many as are there, at least one, within the limits. It gives none when the time has
// passed, and io.EOF at the end that UntilEnd asks for. Given up, it loses nothing.
func (k *Consumer) ReceiveBatch(ctx context.Context, limits *ReceiveLimits) ([]Received, error) {
	if limits == nil {
		limits = DefaultReceiveLimits()
	}
	if limits.MaxMessages < 1 {
		return nil, usage("max_messages", "max_messages must be at least 1")
	}
	timed, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	list, err := k.receive(timed, *limits)
	if ctx.Err() == nil && errors.Is(err, CodeClientTimeout) {
		return nil, nil
	}
	return list, err
}

func (k *Consumer) receive(ctx context.Context, limits ReceiveLimits) ([]Received, error) {
	select {
	case k.receiving <- struct{}{}:
		defer func() { <-k.receiving }()
	default:
		return nil, fail(CodeConcurrentCall, nil, "another receive of this consumer is under way")
	}
	var list []Received
	bytes := uint64(0)
	for {
		m, err := k.take()
		switch {
		case err == nil && m != nil:
			list = append(list, *m)
			bytes += uint64(len(m.Payload) + len(m.Key))
			if uint64(len(list)) >= limits.MaxMessages || bytes >= limits.MaxBytes {
				return list, nil
			}
			continue
		case len(list) > 0:
			return list, nil // an error comes with the next call
		case err != nil:
			return nil, err
		}
		select {
		case <-k.ready:
		case <-ctx.Done():
			return nil, contextError(ctx, "while waiting for a message")
		}
	}
}

// take hands out the next message there is: nil if there is none now.
func (k *Consumer) take() (*Received, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	finished := 0
	for tried := 0; tried < len(k.readers); {
		if k.closed {
			return nil, closedError("consumer")
		}
		r := k.readers[k.turn%len(k.readers)]
		switch {
		case r.finished:
			finished++
		case r.paused:
		case len(r.current) > 0:
			if m := r.pop(); m != nil {
				return m, nil
			}
			continue // that batch had nothing for us: look again
		case len(r.queue) > 0:
			r.load()
			continue
		case r.err != nil:
			k.turn++
			return nil, r.err
		}
		k.turn++
		tried++
	}
	if finished == len(k.readers) {
		return nil, io.EOF
	}
	if k.failure != nil {
		return nil, k.failure
	}
	return nil, nil
}

// load decodes the next batch. The lock is let go meanwhile; only one receive is under way, so that only a seek interferes.
func (r *reader) load() {
	k := r.k
	b, size := r.queue[0], r.sizes[0]
	k.mu.Unlock()
	records, err := b.Records()
	k.mu.Lock()
	if len(r.queue) == 0 || r.queue[0] != b {
		return
	}
	r.queue, r.sizes = r.queue[1:], r.sizes[1:]
	r.queued -= size
	if err != nil {
		e := corrupt(b, err)
		r.owed += size
		if k.options.OnCorrupt == CorruptStop {
			if s := r.live; s != nil && s.answered {
				go s.cancel()
			}
			r.live = nil
			r.drop()
			r.err = e
		}
		signal(k.wake)
		return
	}
	r.current, r.batch, r.size = records, b, size
}

// pop hands out the next message of the current batch, nil if none of the rest is wanted.
func (r *reader) pop() *Received {
	var found *Received
	for found == nil && len(r.current) > 0 {
		m := &r.current[0]
		if r.end != nil && m.Offset >= *r.end {
			r.finish()
			return nil
		}
		if m.Offset >= r.next {
			found = &Received{
				Partition: r.partition, Offset: m.Offset, TimestampUS: m.TimestampUS, AppendTimeUS: r.batch.AppendTimeUS,
				Payload: m.Payload, Key: m.Key, Headers: m.Headers, ID: m.ID,
			}
			r.next = m.Offset + 1
		}
		r.current = r.current[1:]
	}
	if len(r.current) == 0 {
		r.next = max(r.next, r.batch.NextOffset())
		r.owed += r.size
		r.current, r.batch, r.size = nil, nil, 0
		if r.live != nil && (r.owed >= r.k.share/2 || r.live.credit <= 0) {
			signal(r.k.wake)
		}
		r.k.turn++
		r.checkEnd()
	}
	return found
}

// Seek goes to another position of one partition. What was handed out is not taken back.
func (k *Consumer) Seek(partition uint32, position Position) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, err := k.reader(partition)
	if err != nil {
		return err
	}
	old := r.live
	r.live = nil
	r.drop()
	r.owed, r.known, r.finished, r.err, r.retryAt = 0, false, false, nil, time.Time{}
	r.jump(position.p)
	if old != nil && old.answered {
		go old.cancel()
	}
	signal(k.wake)
	return nil
}

// Position is the offset of the next message to be handed out, and false until the server has told what the start came to.
func (k *Consumer) Position(partition uint32) (uint64, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, err := k.reader(partition)
	if err != nil {
		return 0, false, err
	}
	return r.next, r.known, nil
}

// Pause stops handing out messages of a partition; at most its share of the prefetched bytes is kept.
func (k *Consumer) Pause(partition uint32) error { return k.setPaused(partition, true) }

// Resume goes on with a paused partition.
func (k *Consumer) Resume(partition uint32) error { return k.setPaused(partition, false) }

func (k *Consumer) setPaused(partition uint32, paused bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, err := k.reader(partition)
	if err != nil {
		return err
	}
	r.paused = paused
	signal(k.ready)
	return nil
}

// Close ends the subscriptions; a receive under way fails with CLOSED. Closing again does nothing.
func (k *Consumer) Close(context.Context) error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	var live []*subscription
	for _, r := range k.readers {
		if r.live != nil && r.live.answered && r.live.conn.alive() {
			live = append(live, r.live)
		}
		r.live = nil
		r.drop()
	}
	k.mu.Unlock()
	k.cancel()
	signal(k.ready)
	for _, s := range live {
		s.cancel()
	}
	k.running.Wait()
	k.client.forget(k)
	return nil
}
