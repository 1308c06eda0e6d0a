package levada

import (
	"context"
	"math/rand"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.org/levada/internal/wire"
)

// testServer is a server of one topic, written from the specification too: it keeps what it appends in memory, and misbehaves as
// a test tells it to.
type testServer struct {
	t        *testing.T
	listener net.Listener
	answer   sync.WaitGroup

	mu         sync.Mutex
	chance     *rand.Rand
	conns      map[net.Conn]bool
	partitions []*testPartition
	producers  uint64
	epochs     map[uint64]uint32
	topicID    uint32
	// fault tells what happens to a Produce: see the constants. Nil is no fault.
	fault func() fault
	// damage tells whether to damage the next batch on its way.
	damage func() bool
	// extra is sent to every connection once it is ready.
	extra []byte
}

type fault int

const (
	noFault      fault = iota
	dropBefore         // the connection ends before the batch is appended
	dropAfter          // the connection ends after it was appended, before the answer
	overloaded         // refused, may be sent again
	unknown            // appended, answered APPEND_UNKNOWN
	readOnly           // refused for good
	forget             // the partition forgets all producers
	renewedTopic       // the topic is deleted and created again
)

type testPartition struct {
	log       []byte // stored batches
	values    []uint64
	next      uint64
	producers map[uint64]*testProducer
}

type testProducer struct {
	epoch uint32
	next  uint64
	past  map[uint64]uint64 // base offsets by sequence
}

func newTestServer(t *testing.T, partitions int) *testServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{t: t, listener: listener, conns: map[net.Conn]bool{}, epochs: map[uint64]uint32{}, topicID: 1, chance: rand.New(rand.NewSource(7))}
	for range partitions {
		s.partitions = append(s.partitions, &testPartition{producers: map[uint64]*testProducer{}})
	}
	s.answer.Add(1)
	go func() {
		defer s.answer.Done()
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.answer.Add(1)
			go s.serve(c)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.answer.Wait()
	})
	return s
}

// connect gives a client of the server that is in a hurry.
func (s *testServer) connect() *Client {
	s.t.Helper()
	o := DefaultOptions()
	o.Server, o.Anonymous = s.listener.Addr().String(), true
	o.BackoffFloor, o.BackoffCeiling = time.Millisecond, 5*time.Millisecond
	c, err := Connect(context.Background(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *testServer) serve(c net.Conn) {
	defer s.answer.Done()
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	preface := make([]byte, len(wire.Preface))
	if _, err := c.Read(preface); err != nil {
		return
	}
	subs := map[uint32]*wire.Subscribe{}
	for {
		f, err := wire.ReadFrame(c, wire.MaxControlBytes, wire.MaxBatchBytes)
		if err != nil {
			return
		}
		m := wire.New(f.Kind)
		if err := wire.Decode(f.Control, m); err != nil {
			s.t.Errorf("the client sent %v", err)
			return
		}
		reply, end := s.handle(m, f.Body)
		if reply != nil {
			c.Write(testFrame(reply, f.Correlation))
		}
		if end {
			return
		}
		switch m := m.(type) {
		case *wire.Hello:
			c.Write(s.extra)
		case *wire.Subscribe:
			subs[m.Subscription] = m
		case *wire.Credit:
			if sub := subs[m.Subscription]; sub != nil {
				sub.CreditBytes += m.CreditBytes
			}
		case *wire.Unsubscribe:
			delete(subs, m.Subscription)
		}
		for _, sub := range subs {
			s.push(c, sub)
		}
	}
}

func testFrame(m wire.Message, correlation uint32) []byte {
	control, _ := wire.Encode(m)
	return (&wire.Frame{Kind: m.Kind(), Correlation: correlation, Control: control}).Head()
}

func testError(code Code, retriable, maybe bool, details ...Detail) *wire.Error {
	e := &wire.Error{Code: uint16(code), Class: uint8(clientErrors[code].class), Message: "as the test wants it", Details: details}
	if retriable {
		e.Flags |= flagRetriable
	}
	if maybe {
		e.Flags |= flagMaybeApplied
	}
	return e
}

func (s *testServer) handle(m wire.Message, body []byte) (reply wire.Message, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m := m.(type) {
	case *wire.Hello:
		return &wire.Welcome{Version: 1, MaxControlBytes: 1 << 20, MaxBatchBytes: 16 << 20, MaxPayloadBytes: 1 << 20, MaxInFlight: 64, IdleTimeoutMS: 60000}, false
	case *wire.Ping:
		return &wire.Pong{}, false
	case *wire.DescribeTopic:
		d := &wire.TopicDescribed{Topic: wire.TopicInfo{TopicID: s.topicID, Stream: m.Stream, Topic: m.Topic}}
		for n := range s.partitions {
			d.Partitions = append(d.Partitions, wire.PartitionInfo{Partition: uint32(n)})
		}
		return d, false
	case *wire.OpenProducer:
		if m.ProducerID == 0 {
			s.producers++
			s.epochs[s.producers] = 1
			return &wire.ProducerOpened{ProducerID: s.producers, ProducerEpoch: 1}, false
		}
		if s.epochs[m.ProducerID] != m.ProducerEpoch {
			return testError(CodeFenced, false, false), false
		}
		s.epochs[m.ProducerID]++
		return &wire.ProducerOpened{ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch + 1}, false
	case *wire.Produce:
		return s.produce(m, body)
	case *wire.Subscribe:
		p := s.partitions[m.Partition]
		if m.Position.Kind != wire.PositionKindOffset {
			m.Position.Value = 0
		}
		return &wire.Subscribed{StartOffset: m.Position.Value, VisibleEndOffset: p.next}, false
	case *wire.Unsubscribe:
		return &wire.Unsubscribed{}, false
	}
	return nil, false
}

func (s *testServer) produce(m *wire.Produce, body []byte) (wire.Message, bool) {
	f := noFault
	if s.fault != nil {
		f = s.fault()
	}
	if f == renewedTopic {
		s.topicID++
		for _, p := range s.partitions {
			p.producers = map[uint64]*testProducer{}
		}
	}
	if m.TopicID != s.topicID {
		return testError(CodeTopicNotFound, false, false), false
	}
	p := s.partitions[m.Partition]
	switch f {
	case dropBefore:
		return nil, true
	case overloaded:
		return testError(CodeOverloaded, true, false), false
	case readOnly:
		return testError(CodePartitionReadOnly, false, false), false
	}
	b, err := wire.ParseProduced(body, wire.MaxBatchBytes)
	if err != nil {
		s.t.Errorf("the client produced %v", err)
		return testError(CodeMalformedBatch, false, false), false
	}
	// Nobody can tell a first batch from its copy when the producer is forgotten meanwhile: here it has long been answered.
	if f == forget && b.FirstSequence >= 8*3 {
		p.producers = map[uint64]*testProducer{}
	}
	reply := p.append(b, body)
	if _, ok := reply.(*wire.ProduceAck); ok && f == unknown {
		return testError(CodeAppendUnknown, true, true), false
	}
	return reply, f == dropAfter
}

// append does what section 6.2 says.
func (p *testPartition) append(b *wire.Batch, body []byte) wire.Message {
	state := p.producers[b.ProducerID]
	switch {
	case state == nil && b.FirstSequence != 0:
		return testError(CodeUnknownProducer, true, false)
	case state == nil || b.ProducerEpoch > state.epoch:
		state = &testProducer{epoch: b.ProducerEpoch, past: map[uint64]uint64{}}
		p.producers[b.ProducerID] = state
	case b.ProducerEpoch < state.epoch:
		return testError(CodeFenced, false, false)
	}
	if base, ok := state.past[b.FirstSequence]; ok {
		return &wire.ProduceAck{BaseOffset: base, Durability: Disk, Flags: 1}
	}
	if b.FirstSequence != state.next {
		return testError(CodeSequenceGap, true, false, Detail{Name: "expected", Value: strconv.FormatUint(state.next, 10)})
	}
	state.past[b.FirstSequence] = p.next
	state.next += uint64(b.MessageCount)
	base := p.next
	records, _ := b.Records()
	for _, r := range records {
		n, _ := strconv.ParseUint(string(r.Payload), 10, 64)
		p.values = append(p.values, n)
	}
	p.log = wire.AppendStored(p.log, body, base, 1, 0)
	p.next += uint64(b.MessageCount)
	return &wire.ProduceAck{BaseOffset: base, Durability: Disk}
}

// push delivers what a subscription's credit allows, one batch a frame.
func (s *testServer) push(c net.Conn, sub *wire.Subscribe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[sub.Partition]
	for rest := p.log; len(rest) > 0 && int64(sub.CreditBytes) > 0; {
		b, after, err := wire.ParseStored(rest, wire.MaxBatchBytes)
		if err != nil {
			s.t.Error(err)
			return
		}
		stored := append([]byte{}, rest[:len(rest)-len(after)]...)
		rest = after
		if b.NextOffset() <= sub.Position.Value {
			continue
		}
		sub.Position.Value = b.NextOffset()
		sub.CreditBytes -= uint64(len(stored))
		if s.damage != nil && s.damage() {
			stored[len(stored)-1] ^= 1
		}
		control, _ := wire.Encode(&wire.Deliver{Subscription: sub.Subscription, VisibleEndOffset: p.next})
		f := wire.Frame{Kind: new(wire.Deliver).Kind(), Control: control, Body: stored}
		c.Write(append(f.Head(), stored...))
	}
}
