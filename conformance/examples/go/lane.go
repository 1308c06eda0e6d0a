package levada

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.org/levada/internal/wire"
)

// batch is messages for one partition that are sent together. Its fields belong to its lane, under the lane's lock; receipt
// and err may be read once done is closed.
type batch struct {
	records  []wire.Record // until it is encoded
	produced []byte
	count    uint32
	size     uint64 // as counted by the producer's buffer
	since    time.Time
	sealed   atomic.Bool

	numbered bool
	sequence uint64
	inFlight bool
	unknown  bool   // an attempt may have been applied
	refusal  *Error // TOPIC_NOT_FOUND, until it is known whether there is another topic of that name
	settled  bool

	done    chan struct{}
	receipt BatchReceipt
	err     *Error
}

func (b *batch) isSealed() bool { return b.sealed.Load() }

// lane is a producer's way to one partition. It has a producer identity of its own, so that a new epoch concerns no other
// partition. One goroutine numbers and sends; answers come on the connection's goroutine and only change the state.
//
// Batches leave in the order of the queue and are numbered as they leave. When one of them has to be sent again, nothing leaves
// until all that are in flight have been answered; then the lane begins again with the first of the queue.
type lane struct {
	p         *Producer
	partition uint32
	wake      chan struct{}

	mu       sync.Mutex
	open     *batch
	queue    []*batch // sealed and not settled, in order
	inFlight int
	flushing bool // the open batch must not linger

	conn       *conn
	topicID    uint32
	producer   uint64
	epoch      uint32
	next       uint64  // sequence of the next batch to be numbered
	hold       bool    // wait for every answer, then go on with the first of the queue
	probe      bool    // after that, send one batch at a time until one is acknowledged
	vacant     *uint64 // a batch with this sequence was refused for good: those after it take its place
	drain      bool    // a batch of unknown outcome was given up: learn what became of the others, then take a new epoch
	newEpoch   bool
	forgotten  *Error // why the next epoch is needed, for batches whose outcome nobody can tell any more
	redescribe bool
	retryAt    time.Time
	wait       backoff
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// current gives the batch that is open, or opens one.
func (l *lane) current(now time.Time) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = &batch{since: now, done: make(chan struct{})}
	}
	return l.open
}

// append adds messages to the open batch and seals it as it fills. No batch is over limit but one of a single message.
func (l *lane) append(messages []*pending, limit uint64, now time.Time, deliveries []Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.p.options
	for _, m := range messages {
		if b := l.open; b != nil && b.count > 0 && (b.size+uint64(m.size) > limit || uint64(b.count) >= o.BatchMessages) {
			l.seal()
		}
		if l.open == nil {
			l.open = &batch{since: now, done: make(chan struct{})}
		}
		b := l.open
		if b.count == 0 {
			b.since = now
		}
		deliveries[m.at] = Delivery{batch: b, index: b.count}
		b.records = append(b.records, m.record)
		b.size += uint64(m.size)
		b.count++
	}
	l.signal()
}

func (l *lane) seal() {
	l.open.sealed.Store(true)
	l.queue = append(l.queue, l.open)
	l.open = nil
}

// flush lets the open batch go and gives everything that is not settled.
func (l *lane) flush() []*batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil && l.open.count > 0 {
		l.seal()
	}
	l.signal()
	return append([]*batch{}, l.queue...)
}

func (l *lane) run() {
	defer l.p.running.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, again := l.step()
		if again {
			if l.p.ctx.Err() == nil {
				continue
			}
			wait = 0
		}
		timer.Reset(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-l.p.ctx.Done():
			l.failAll(closedError("producer"))
			return
		}
	}
}

const forever = 24 * time.Hour

// step does what can be done now and tells how long to wait for the next thing, or that there is more to do at once.
func (l *lane) step() (wait time.Duration, again bool) {
	if e := l.p.failure.Load(); e != nil {
		l.failAll(e)
	}
	l.mu.Lock()
	now := time.Now()
	wait = l.expire(now)
	if l.inFlight == 0 && l.hold {
		l.hold, l.probe = false, true
		l.fillVacancy()
	}
	if pause := l.retryAt.Sub(now); pause > 0 {
		l.mu.Unlock()
		return min(wait, pause), false
	}
	if l.drain && l.inFlight == 0 && l.firstUnknown() == nil {
		l.drain, l.newEpoch = false, l.p.options.Idempotent
	}
	b, linger := l.pick(now)
	if b == nil || l.hold {
		l.mu.Unlock()
		return min(wait, linger), false
	}
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(l.p.ctx, max(wait, time.Millisecond))
	defer cancel()
	conn, err := l.p.client.acquire(ctx)
	if err == nil {
		err = l.prepare(ctx, conn)
	}
	if err != nil {
		return wait, l.blocked(ctx, asError(err))
	}
	return wait, l.send(ctx, conn, b)
}

// expire fails batches whose time is over and tells when the next one's is.
func (l *lane) expire(now time.Time) time.Duration {
	wait := forever
	if l.open != nil && l.open.count > 0 && now.Sub(l.open.since) >= l.p.options.DeliveryTimeout {
		l.seal()
	}
	for _, b := range append([]*batch{}, l.queue...) {
		left := l.p.options.DeliveryTimeout - now.Sub(b.since)
		if left > 0 {
			wait = min(wait, left)
			continue
		}
		e := fail(CodeDeliveryTimeout, nil, fmt.Sprintf("not acknowledged within %v", l.p.options.DeliveryTimeout))
		if b.inFlight || b.unknown {
			e = e.maybe()
		}
		l.giveUp(b, e)
	}
	if l.open != nil && l.open.count > 0 {
		wait = min(wait, l.p.options.DeliveryTimeout-now.Sub(l.open.since))
	}
	return wait
}

// giveUp fails a batch and sees to the sequences after it.
func (l *lane) giveUp(b *batch, e *Error) {
	switch {
	case b.inFlight || b.unknown:
		l.drain = true
	case b.numbered:
		l.leaveVacant(b.sequence)
	}
	l.settle(b, nil, e)
}

func (l *lane) leaveVacant(sequence uint64) {
	l.hold = true
	if l.vacant == nil || *l.vacant > sequence {
		l.vacant = &sequence
	}
}

// fillVacancy renumbers what follows a batch that was refused for good. None of it can have been appended: the server takes
// no batch beyond a missing one.
func (l *lane) fillVacancy() {
	if l.vacant == nil {
		return
	}
	next := *l.vacant
	l.vacant = nil
	for _, b := range l.queue {
		if b.numbered && b.sequence > next {
			b.sequence, b.unknown = next, false
			next += uint64(b.count)
		}
	}
	l.next = next
}

func (l *lane) firstUnknown() *batch {
	for _, b := range l.queue {
		if b.unknown && !b.inFlight {
			return b
		}
	}
	return nil
}

// pick finds the batch to send next, or tells how long the open one may linger.
func (l *lane) pick(now time.Time) (*batch, time.Duration) {
	if l.drain {
		if l.inFlight > 0 {
			return nil, forever
		}
		return l.firstUnknown(), forever
	}
	for _, b := range l.queue {
		if !b.inFlight {
			if l.full() {
				return nil, forever
			}
			return b, forever
		}
	}
	if l.open == nil || l.open.count == 0 {
		return nil, forever
	}
	full := l.open.size >= l.p.options.BatchBytes || uint64(l.open.count) >= l.p.options.BatchMessages
	if left := l.p.options.Linger - now.Sub(l.open.since); left > 0 && !full {
		return nil, left
	}
	if l.full() {
		return nil, forever
	}
	l.seal()
	return l.queue[len(l.queue)-1], forever
}

func (l *lane) full() bool {
	if l.probe {
		return l.inFlight > 0
	}
	most := l.p.options.MaxInFlight
	if l.conn != nil {
		most = min(most, uint64(l.conn.welcome.MaxInFlight))
	}
	return uint64(l.inFlight) >= most
}

// prepare sees that the topic is known on this connection and that the lane has an identity. It may leave the lane held: what is in
// flight on another connection must be answered first.
func (l *lane) prepare(ctx context.Context, conn *conn) error {
	l.mu.Lock()
	if conn != l.conn && l.inFlight > 0 {
		l.hold = true
	}
	held, redescribe := l.hold, l.redescribe
	l.mu.Unlock()
	if held {
		return nil
	}
	on := conn
	if redescribe {
		on = nil
	}
	if err := l.p.describe(ctx, on); err != nil {
		return err
	}
	info := l.p.topicInfo()
	if l.partition >= info.Options.PartitionCount {
		return fail(CodePartitionNotFound, nil, fmt.Sprintf("%s has no partition %d", l.p.topic, l.partition), "partition", fmt.Sprint(l.partition))
	}
	l.mu.Lock()
	l.conn, l.redescribe = conn, false
	if l.topicID != info.TopicID {
		// Another topic under the same name: what may have been appended to the first one is gone with it.
		if l.topicID != 0 {
			l.newEpoch = l.p.options.Idempotent
			l.drain = false
			for _, b := range l.queue {
				b.unknown, b.refusal = false, nil
			}
		}
		l.topicID = info.TopicID
	}
	for _, b := range append([]*batch{}, l.queue...) {
		if b.refusal != nil {
			l.giveUp(b, b.refusal)
		}
	}
	if l.hold {
		l.mu.Unlock()
		return nil
	}
	if l.newEpoch {
		// Under a new epoch the server could not tell a second copy of these from a first.
		for b := l.firstUnknown(); b != nil; b = l.firstUnknown() {
			e := l.forgotten
			if e == nil {
				e = fail(CodeAppendUnknown, nil, "the server has forgotten this producer")
			}
			l.settle(b, nil, e.maybe())
		}
		l.forgotten = nil
	}
	need := l.p.options.Idempotent && (l.producer == 0 || l.newEpoch)
	request := wire.OpenProducer{ProducerID: l.producer, ProducerEpoch: l.epoch}
	l.mu.Unlock()
	if !need {
		return nil
	}
	// A new identity may be asked for twice. The next epoch of one may not: the second answer would be FENCED, by ourselves.
	var opened wire.ProducerOpened
	err := l.p.client.do(ctx, &request, &opened, request.ProducerID != 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if e := asError(err); e.MaybeApplied {
			l.producer, l.epoch = 0, 0
			e.Retriable = true
		}
		return err
	}
	l.producer, l.epoch, l.newEpoch, l.next, l.vacant = opened.ProducerID, opened.ProducerEpoch, false, 0, nil
	for _, b := range l.queue { // none is in flight, and none may have been applied
		b.numbered = false
	}
	return nil
}

// blocked handles a failure to prepare, and tells whether to go on at once.
func (l *lane) blocked(ctx context.Context, e *Error) bool {
	if ctx.Err() != nil {
		return true // a batch has expired, or the producer ends
	}
	if e.Code == CodeFenced {
		l.p.fence(e)
		return true
	}
	if !e.Retriable {
		l.failAll(e)
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retryAt = time.Now().Add(l.wait.step(e))
	return true
}

// send numbers and encodes a batch where that is still to do, and sends it.
func (l *lane) send(ctx context.Context, conn *conn, b *batch) (again bool) {
	codec := l.codec()
	l.mu.Lock()
	if l.p.failure.Load() != nil {
		l.mu.Unlock()
		return true
	}
	if l.hold || b.settled || b.inFlight {
		waiting := l.hold && l.inFlight > 0
		l.mu.Unlock()
		return !waiting
	}
	if b.produced == nil {
		produced, err := wire.EncodeBatch(b.records, codec)
		if err != nil {
			l.giveUp(b, fail(CodeClientInternal, err, err.Error()))
			l.mu.Unlock()
			return true
		}
		b.produced, b.records = produced, nil
	}
	if l.p.options.Idempotent && !b.numbered {
		b.numbered, b.sequence = true, l.next
		l.next += uint64(b.count)
	}
	part := wire.Stamped(b.produced, l.producer, l.epoch, b.sequence)
	request := wire.Produce{TopicID: l.topicID, Partition: l.partition, Durability: l.p.options.Durability}
	b.inFlight = true
	l.inFlight++
	l.mu.Unlock()
	err := conn.start(ctx, &request, [2][]byte{part, b.produced[wire.ProducerPartBytes:]}, func(f *wire.Frame, e *Error) {
		l.answered(conn, b, f, e)
	})
	if err == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b.inFlight = false
	l.inFlight--
	switch {
	case ctx.Err() != nil:
	case err.Retriable:
		l.retryAt = time.Now().Add(l.wait.step(err))
	default:
		l.giveUp(b, err)
	}
	return true
}

func (l *lane) codec() uint8 {
	switch l.p.options.Compression {
	case CompressionLz4:
		return wire.CodecLz4
	case CompressionTopic:
		if l.p.topicInfo().Options.Compression == wire.TopicCompressionLz4 {
			return wire.CodecLz4
		}
	}
	return wire.CodecNone
}

// answered takes the answer to a batch, on the connection's goroutine.
func (l *lane) answered(conn *conn, b *batch, f *wire.Frame, e *Error) {
	var ack wire.ProduceAck
	if e == nil {
		if err := wire.Decode(f.Control, &ack); err != nil {
			e = asError(badFrame(err)).maybe()
			e.Retriable = true
			go conn.end(e)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.signal()
	b.inFlight = false
	l.inFlight--
	if b.settled {
		return // it was given up meanwhile
	}
	if e == nil {
		l.wait.next, l.probe = 0, false
		base := ack.BaseOffset
		l.settle(b, &BatchReceipt{
			Partition: l.partition, BaseOffset: &base, MessageCount: b.count, AppendTimeUS: ack.AppendTimeUS, Durability: ack.Durability,
			Duplicate: ack.Flags&1 != 0, ServerEncoded: ack.Flags&2 != 0,
		}, nil)
		return
	}
	l.refused(b, e)
}

// refused decides what becomes of a batch that was not acknowledged.
func (l *lane) refused(b *batch, e *Error) {
	switch e.Code {
	case CodeDuplicateUnknownOffset:
		l.settle(b, &BatchReceipt{Partition: l.partition, MessageCount: b.count, Durability: l.p.options.Durability, Duplicate: true}, nil)
	case CodeFenced:
		l.p.failure.CompareAndSwap(nil, e)
		l.settle(b, nil, e)
		go l.p.fence(e)
	case CodeSequenceGap, CodeUnknownProducer, CodeLogTruncated:
		l.hold = true
		if e.Code == CodeSequenceGap {
			b.unknown = false
		}
		// With another before it that is not there yet, that one is what is missing: a partition knows a producer from its first batch on.
		// With none, the server has lost what it acknowledged, or has forgotten the producer.
		first := len(l.queue) > 0 && l.queue[0] == b && l.vacant == nil && !l.drain
		if expected, ok := e.number("expected"); first && e.Code == CodeSequenceGap && (!ok || expected >= b.sequence) {
			l.retryAt = time.Now().Add(l.wait.step(e)) // it misses nothing: ask again
		} else if first || l.drain && e.Code != CodeSequenceGap {
			l.newEpoch, l.forgotten = true, e
		}
	case CodeTopicNotFound:
		l.redescribe, b.refusal = true, e
		l.later(e)
	default:
		l.redescribe = l.redescribe || e.Code == CodePartitionNotFound
		b.unknown = b.unknown || e.MaybeApplied
		again := e.Retriable || e.Code == CodeBadFrame // that ended the connection and is no verdict on this batch
		if !again || e.MaybeApplied && !l.p.options.Idempotent {
			if b.unknown {
				e = e.maybe()
			}
			l.giveUp(b, e)
			return
		}
		l.later(e)
	}
}

// later waits for every answer and a while longer before it begins again.
func (l *lane) later(e *Error) {
	if !l.hold { // the others in flight fail for the same reason
		l.retryAt = time.Now().Add(l.wait.step(e))
	}
	l.hold = true
}

// settle ends a batch one way or the other.
func (l *lane) settle(b *batch, receipt *BatchReceipt, e *Error) {
	if b.settled {
		return
	}
	b.settled = true
	for i, q := range l.queue {
		if q == b {
			l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
			break
		}
	}
	if receipt != nil {
		b.receipt = *receipt
	}
	b.err = e
	b.records, b.produced = nil, nil
	l.p.buffer.give(b.size)
	close(b.done)
}

// failAll ends everything there is.
func (l *lane) failAll(e *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil && l.open.count > 0 {
		l.seal()
	}
	for _, b := range append([]*batch{}, l.queue...) {
		f := e
		if b.inFlight || b.unknown {
			f = e.maybe()
		}
		l.giveUp(b, f)
	}
}
