package levada

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"runtime"
	"testing"
	"time"

	"example.org/levada/internal/wire"
)

// leavesNothing fails if goroutines are left of what a test did.
func leavesNothing(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines instead of %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// produceUnder sends numbered messages while the server fails in the given ways, and gives which were acknowledged and which failed.
func produceUnder(t *testing.T, s *testServer, seed int64, count int, faults ...fault) (acked map[uint64]bool, failed map[uint64]*Error) {
	chance := rand.New(rand.NewSource(seed))
	s.fault = func() fault {
		if len(faults) == 0 || chance.Intn(4) != 0 {
			return noFault
		}
		return faults[chance.Intn(len(faults))]
	}
	c := s.connect()
	o := DefaultProducerOptions()
	o.BatchMessages = 3
	p, err := c.Producer(within(t, 20*time.Second), "s/t", o)
	if err != nil {
		t.Fatal(err)
	}
	acked, failed = map[uint64]bool{}, map[uint64]*Error{}
	deliveries := make([]*Delivery, count)
	for n := range deliveries {
		partition := uint32(n % len(s.partitions))
		deliveries[n], err = p.Enqueue(within(t, 20*time.Second), &Message{Payload: []byte(fmt.Sprint(n)), Partition: &partition})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, d := range deliveries {
		r, err := d.Wait(within(t, 20*time.Second))
		if err != nil {
			failed[uint64(n)] = asError(err)
			continue
		}
		acked[uint64(n)] = true
		s.mu.Lock()
		if got := s.partitions[r.Partition].values[*r.Offset]; got != uint64(n) {
			t.Errorf("message %d was acknowledged at the offset of %d", n, got)
		}
		s.mu.Unlock()
	}
	if err := c.Close(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	return acked, failed
}

// checkLogs sees that each message is there at most once, in order, and is there if it was acknowledged.
func checkLogs(t *testing.T, s *testServer, acked map[uint64]bool, failed map[uint64]*Error) {
	t.Helper()
	seen := map[uint64]bool{}
	for _, p := range s.partitions {
		for i, n := range p.values {
			if i > 0 && n <= p.values[i-1] {
				t.Errorf("%d comes after %d", n, p.values[i-1])
			}
			if seen[n] {
				t.Errorf("%d is there twice", n)
			}
			seen[n] = true
			if e := failed[n]; e != nil && !e.MaybeApplied {
				t.Errorf("%d is there although it certainly failed: %v", n, e)
			}
		}
	}
	for n := range acked {
		if !seen[n] {
			t.Errorf("%d was acknowledged and is not there", n)
		}
	}
}

func TestMessagesAreAppendedOnceAndInOrderWhateverTheConnectionDoes(t *testing.T) {
	for seed := int64(0); seed < 20; seed++ {
		before := runtime.NumGoroutine()
		s := newTestServer(t, 2)
		acked, failed := produceUnder(t, s, seed, 300, dropBefore, dropAfter, overloaded, unknown)
		if len(failed) > 0 {
			t.Errorf("seed %d: %v", seed, failed)
		}
		checkLogs(t, s, acked, failed)
		s.listener.Close()
		leavesNothing(t, before)
	}
}

func TestABatchRefusedForGoodLeavesNoGap(t *testing.T) {
	for seed := int64(0); seed < 20; seed++ {
		s := newTestServer(t, 2)
		acked, failed := produceUnder(t, s, seed, 300, readOnly, overloaded)
		if len(failed) == 0 || len(acked) == 0 {
			t.Errorf("seed %d: %d acknowledged, %d failed", seed, len(acked), len(failed))
		}
		for n, e := range failed {
			if e.Code != CodePartitionReadOnly || e.MaybeApplied {
				t.Errorf("%d: %v", n, e)
			}
		}
		checkLogs(t, s, acked, failed)
	}
}

func TestUnknownOutcomesAreReportedAndNeverDuplicated(t *testing.T) {
	for seed := int64(0); seed < 40; seed++ {
		s := newTestServer(t, 2)
		acked, failed := produceUnder(t, s, seed, 300, readOnly, dropAfter, dropBefore, unknown, forget, overloaded)
		if len(acked) == 0 {
			t.Errorf("seed %d: nothing was acknowledged", seed)
		}
		checkLogs(t, s, acked, failed)
	}
}

func TestATopicCreatedAgainIsFoundAgain(t *testing.T) {
	s := newTestServer(t, 1)
	acked, failed := produceUnder(t, s, 3, 200, renewedTopic)
	if len(failed) != 0 || len(acked) != 200 || s.topicID == 1 {
		t.Errorf("%d acknowledged, %v, topic %d", len(acked), failed, s.topicID)
	}
}

func TestAMessageThatIsNotAcknowledgedInTimeFails(t *testing.T) {
	s := newTestServer(t, 1)
	s.fault = func() fault { return overloaded }
	c := s.connect()
	o := DefaultProducerOptions()
	o.DeliveryTimeout = 30 * time.Millisecond
	p, err := c.Producer(within(t, 5*time.Second), "s/t", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(within(t, 5*time.Second), &Message{}); !errors.Is(err, CodeDeliveryTimeout) {
		t.Error(err)
	}
	if err := c.Close(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := p.Send(within(t, time.Second), &Message{}); !errors.Is(err, ClassClosed) {
		t.Error(err)
	}
}

func TestAConsumerSurvivesDamageAndLostConnectionsWithoutLoss(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newTestServer(t, 2)
	produceUnder(t, s, 1, 500)
	times := 0
	s.damage = func() bool { times++; return times%17 == 0 }
	c := s.connect()
	o := DefaultConsumerOptions()
	o.From, o.UntilEnd, o.PrefetchBytes = Earliest(), true, 1000
	k, err := c.Consumer(within(t, 5*time.Second), "s/t", o)
	if err != nil {
		t.Fatal(err)
	}
	next := map[uint32]uint64{}
	for {
		impatient, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Intn(300))*time.Microsecond)
		m, err := k.Receive(impatient)
		cancel()
		if err == io.EOF {
			break
		}
		if errors.Is(err, CodeClientTimeout) {
			continue // what was given up is not lost
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Offset != next[m.Partition] || string(m.Payload) != fmt.Sprint(s.partitions[m.Partition].values[m.Offset]) {
			t.Fatalf("offset %d of partition %d is %q, wanted was %d", m.Offset, m.Partition, m.Payload, next[m.Partition])
		}
		next[m.Partition]++
	}
	if next[0] != 250 || next[1] != 250 || times < 17 {
		t.Error(next, times)
	}
	if err := c.Close(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	s.listener.Close()
	leavesNothing(t, before)
}

func TestABatchThatIsAlwaysDamagedIsAnError(t *testing.T) {
	s := newTestServer(t, 1)
	produceUnder(t, s, 1, 10)
	s.damage = func() bool { return true }
	c := s.connect()
	o := DefaultConsumerOptions()
	o.From = Earliest()
	k, err := c.Consumer(within(t, 5*time.Second), "s/t", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Receive(within(t, 5*time.Second)); !errors.Is(err, CodeCorruptBatch) {
		t.Error(err)
	}
	_ = c.Close(within(t, 5*time.Second))
}

func TestPushesOfLaterVersionsAreIgnoredAndUnaskedRepliesAreNot(t *testing.T) {
	s := newTestServer(t, 1)
	later := []byte{14, 0, 0, 0, 0xFF, 0x4F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	copy(later[12:], checksumOf(later))
	s.extra = later
	c := s.connect()
	if _, err := c.Ping(within(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
	_ = c.Close(within(t, 5*time.Second))
	s.extra = testFrame(testError(CodeOverloaded, true, false), 4711)
	c = s.connect()
	if _, err := c.Ping(within(t, 300*time.Millisecond)); err == nil {
		t.Error("a reply nobody asked for is accepted")
	}
	_ = c.Close(within(t, 5*time.Second))
}

func checksumOf(frame []byte) []byte {
	crc := wire.Checksum(frame)
	return []byte{byte(crc), byte(crc >> 8), byte(crc >> 16), byte(crc >> 24)}
}

func TestPositionsAreReadAsTheyAreWritten(t *testing.T) {
	for _, p := range []Position{Earliest(), Latest(), Offset(5), Last(3), Timestamp(-1), Offset(1<<64 - 1)} {
		if back, err := ParsePosition("from", p.String()); err != nil || back != p {
			t.Error(p, back, err)
		}
	}
	for _, text := range []string{"", "earliest(1)", "offset", "offset(", "offset(-1)", "offset(1", "middle", "last()"} {
		if p, err := ParsePosition("from", text); !errors.Is(err, CodeClientUsage) {
			t.Error(text, p, err)
		}
	}
}

func TestOptionsAreSetByTheNamesTheyHaveInEveryLanguage(t *testing.T) {
	o := DefaultConsumerOptions()
	for name, value := range map[string]any{
		"from": "last(3)", "until_end": true, "prefetch_bytes": "4096", "partitions": []any{0, "2"}, "on_corrupt": "skip",
		"partition_from": map[string]any{"2": "earliest"},
	} {
		if err := o.Set(name, value); err != nil {
			t.Error(name, err)
		}
	}
	if o.From != Last(3) || !o.UntilEnd || o.PrefetchBytes != 4096 || len(o.Partitions) != 2 || o.Partitions[1] != 2 || o.OnCorrupt != CorruptSkip || o.PartitionFrom[2] != Earliest() {
		t.Errorf("%+v", o)
	}
	p := DefaultProducerOptions()
	if err := p.Set("linger_ms", 5); err != nil || p.Linger != 5*time.Millisecond {
		t.Error(err, p.Linger)
	}
	for name, value := range map[string]any{"colour": "blue", "linger_ms": "soon", "durability": "paper", "batch_bytes": -1, "": 1} {
		var e *Error
		if err := p.Set(name, value); !errors.As(err, &e) || e.Code != CodeClientUsage {
			t.Error(name, err)
		} else if argument, _ := e.Detail("argument"); argument != name {
			t.Error(argument)
		}
	}
}
