package levada

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"example.org/levada/internal/wire"
)

const (
	outgoingQueue  = 64
	socketBuffer   = 64 << 10
	writeTimeout   = 30 * time.Second
	protocolLowest = 1
	protocolNewest = 1
)

// subscriber takes what the server pushes for one subscription. Its methods run on the goroutine that reads the connection
// and must not wait.
type subscriber interface {
	deliver(c *conn, m *wire.Deliver, body []byte) error
	ended(c *conn, err *Error)
}

// call is a request without its answer yet.
type call struct {
	kind  uint16
	since time.Time
	done  func(*wire.Frame, *Error)
}

type outgoing struct{ head, body []byte }

// conn is one connection, from its handshake to its end; it is never repaired. Two goroutines serve it: one reads, one
// writes and keeps it alive. Both end when it ends, and every call is then answered with CONNECTION_LOST.
type conn struct {
	nc      net.Conn
	r       *bufio.Reader
	welcome wire.Welcome
	user    *wire.Authenticated // nil without authentication
	timeout time.Duration       // of one request

	out     chan outgoing
	slots   chan struct{} // one for each request that may be unanswered
	ended   chan struct{}
	cause   *Error // why, once ended is closed
	running sync.WaitGroup

	mu      sync.Mutex
	over    bool
	calls   map[uint32]*call
	subs    map[uint32]subscriber
	lastID  uint32 // correlation
	lastSub uint32
}

// dial connects and shakes hands. All of it ends with ctx.
func dial(ctx context.Context, o *Options, ticket []byte) (*conn, error) {
	address := o.address()
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return nil, contextError(ctx, "while connecting")
		}
		return nil, fail(CodeConnectFailed, err, fmt.Sprintf("%s cannot be reached: %v", address, err), "address", address)
	}
	tcp := nc
	stop := context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(time.Unix(1, 0)) })
	if o.tls != nil {
		t := tls.Client(nc, o.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			stop()
			nc.Close()
			var broken *net.OpError // of the network, unless it is an alert of the server
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.As(err, &broken) && broken.Op != "remote error" {
				return nil, fail(CodeConnectFailed, err, fmt.Sprintf("%s ended the TLS handshake: %v", address, err), "address", address)
			}
			return nil, fail(CodeTlsFailed, err, "the TLS handshake failed: "+err.Error(), "reason", err.Error())
		}
		nc = t
	}
	c := &conn{
		nc: nc, r: bufio.NewReaderSize(nc, socketBuffer), timeout: o.RequestTimeout,
		out: make(chan outgoing, outgoingQueue), slots: make(chan struct{}, wire.MaxRequestsInFlight), ended: make(chan struct{}),
		calls: map[uint32]*call{}, subs: map[uint32]subscriber{},
	}
	err = c.handshake(o, ticket)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		nc.Close()
		var e *Error
		if !errors.As(err, &e) {
			if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
				return nil, contextError(ctx, "while connecting")
			}
			e = fail(CodeConnectFailed, err, fmt.Sprintf("%s ended the handshake: %v", address, err), "address", address)
		}
		return nil, e
	}
	_ = nc.SetDeadline(time.Time{})
	c.running.Add(2)
	go c.read()
	go c.write()
	return c, nil
}

// handshake sends the preface and Hello, and credentials if the server wants any. It runs before the goroutines of c do.
func (c *conn) handshake(o *Options, ticket []byte) error {
	if _, err := c.nc.Write(wire.Preface); err != nil {
		return err
	}
	hello := wire.Hello{
		MinVersion: protocolLowest, MaxVersion: protocolNewest, BatchFormats: wire.U8List{1},
		Codecs: wire.U8List{wire.CodecNone, wire.CodecLz4}, Client: o.ClientName, ClientVersion: Version,
	}
	if err := c.exchange(&hello, &c.welcome); err != nil {
		return err
	}
	w := &c.welcome
	if w.Version < protocolLowest || w.Version > protocolNewest {
		return fail(CodeUnsupportedVersion, nil, fmt.Sprintf("the server chose version %d, which was not offered", w.Version),
			"min_version", fmt.Sprint(w.Version), "max_version", fmt.Sprint(w.Version))
	}
	if w.Features&^hello.Features != 0 {
		return fail(CodeBadFrame, nil, fmt.Sprintf("the server put features %#x in force, which were not offered", w.Features))
	}
	// Limits may be lower than those of the specification, never higher.
	w.MaxBatchBytes = min(w.MaxBatchBytes, wire.MaxBatchBytes)
	w.MaxPayloadBytes = min(w.MaxPayloadBytes, w.MaxBatchBytes)
	w.MaxInFlight = max(1, min(w.MaxInFlight, wire.MaxInFlight))
	w.MaxControlBytes = min(w.MaxControlBytes, wire.MaxControlBytes)
	if !w.AuthRequired {
		return nil
	}
	if o.Anonymous {
		return fail(CodeUnauthenticated, nil, "the server wants credentials and the options say to present none")
	}
	if ticket != nil {
		err := c.authenticate(&wire.Authenticate{Method: wire.AuthMethodTicket, Secret: ticket})
		if err == nil || !errors.Is(err, ClassAuth) {
			return err
		}
	}
	a, err := o.credentials()
	if err != nil {
		return err
	}
	return c.authenticate(a)
}

func (c *conn) authenticate(a *wire.Authenticate) error {
	var reply wire.Authenticated
	if err := c.exchange(a, &reply); err != nil {
		return err
	}
	c.user = &reply
	return nil
}

// exchange sends one request of the handshake and reads its answer.
func (c *conn) exchange(request, reply wire.Message) error {
	control, err := wire.Encode(request)
	if err != nil {
		return usage("options", "%v", err)
	}
	c.lastID++
	frame := wire.Frame{Kind: request.Kind(), Correlation: c.lastID, Control: control}
	head := frame.Head()
	if len(head) > wire.MaxPreauthFrameBytes {
		return usage("options", "a frame of %d bytes before authentication is over %d", len(head), wire.MaxPreauthFrameBytes)
	}
	if _, err := c.nc.Write(head); err != nil {
		return err
	}
	for {
		answer, err := wire.ReadFrame(c.r, wire.MaxControlBytes, 0)
		if err != nil {
			return badFrame(err)
		}
		switch {
		case answer.Kind == wire.KindError && (answer.Correlation == c.lastID || answer.Correlation == 0):
			return decodeError(answer)
		case answer.Kind == new(wire.Goodbye).Kind() && answer.Correlation == 0:
			return goodbye(answer)
		case answer.Kind == request.Kind()|0x8000 && answer.Correlation == c.lastID:
			return badFrame(wire.Decode(answer.Control, reply))
		case answer.Correlation == 0 && isPush(answer.Kind):
			continue // a push this client does not know
		}
		return fail(CodeBadFrame, nil, fmt.Sprintf("the server answered kind %#04x with kind %#04x", request.Kind(), answer.Kind))
	}
}

func isPush(kind uint16) bool { return kind >= 0x4000 && kind < 0x8000 }

// badFrame tells apart what the server got wrong and what the network did.
func badFrame(err error) error {
	if err != nil && errors.Is(err, wire.ErrMalformed) {
		return fail(CodeBadFrame, err, "the server sent what does not follow the protocol: "+err.Error())
	}
	return err
}

func decodeError(f *wire.Frame) *Error {
	var m wire.Error
	if err := wire.Decode(f.Control, &m); err != nil {
		return asError(badFrame(err))
	}
	return serverError(&m)
}

func goodbye(f *wire.Frame) *Error {
	var m wire.Goodbye
	if err := wire.Decode(f.Control, &m); err != nil {
		return asError(badFrame(err))
	}
	return fail(CodeConnectionLost, nil, fmt.Sprintf("the server ended the connection: %s %s", m.Reason, m.Message))
}

// end closes the connection for a reason; only the first one counts.
func (c *conn) end(cause *Error) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over = true
	c.cause = cause
	calls := c.calls
	c.calls = nil
	c.subs = nil
	c.mu.Unlock()
	c.nc.Close()
	close(c.ended)
	lost := cause
	if cause.Code != CodeConnectionLost && cause.Code != CodeBadFrame && cause.Code != CodeClosed {
		lost = fail(CodeConnectionLost, cause, "the connection ended before the answer came: "+cause.Error())
	}
	for _, call := range calls {
		call.done(nil, lost.maybe())
	}
}

func (c *conn) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// read handles frames until the connection ends.
func (c *conn) read() {
	defer c.running.Done()
	for {
		f, err := wire.ReadFrame(c.r, c.welcome.MaxControlBytes, 2*wire.MaxBatchBytes)
		if err == nil {
			err = c.handle(f)
		}
		if err != nil {
			if !errors.Is(err, ClassProtocol) && !errors.Is(err, ClassConnection) {
				err = badFrame(err)
			}
			var e *Error
			if !errors.As(err, &e) {
				e = fail(CodeConnectionLost, err, "the connection ended: "+err.Error())
			}
			c.end(e)
			return
		}
	}
}

func (c *conn) handle(f *wire.Frame) error {
	if f.Correlation != 0 {
		c.mu.Lock()
		waiting := c.calls[f.Correlation]
		delete(c.calls, f.Correlation)
		c.mu.Unlock()
		if waiting == nil || f.Kind != wire.KindError && f.Kind != waiting.kind|0x8000 {
			bad := fail(CodeBadFrame, nil, fmt.Sprintf("the server answered %d with kind %#04x, which nobody asked for", f.Correlation, f.Kind))
			if waiting != nil {
				waiting.done(nil, bad.maybe())
			}
			return bad
		}
		<-c.slots
		if f.Kind == wire.KindError {
			waiting.done(nil, decodeError(f))
		} else {
			waiting.done(f, nil)
		}
		return nil
	}
	switch m := wire.New(f.Kind).(type) {
	case *wire.Deliver:
		if err := wire.Decode(f.Control, m); err != nil {
			return err
		}
		if s := c.subscriber(m.Subscription, false); s != nil {
			return s.deliver(c, m, f.Body)
		}
		return nil // it has just been given up
	case *wire.SubscriptionEnded:
		if err := wire.Decode(f.Control, m); err != nil {
			return err
		}
		if s := c.subscriber(m.Subscription, true); s != nil {
			s.ended(c, serverError(&wire.Error{Code: m.Code, Class: m.Class, Flags: m.Flags, Message: m.Message, Details: m.Details}))
		}
		return nil
	case *wire.Goodbye:
		return goodbye(f)
	case *wire.Error:
		e := decodeError(f)
		return fail(CodeConnectionLost, e, "the server ended the connection: "+e.Error())
	}
	if !isPush(f.Kind) {
		return fail(CodeBadFrame, nil, fmt.Sprintf("the server sent kind %#04x without a correlation", f.Kind))
	}
	return nil // a push of a later version
}

func (c *conn) subscriber(id uint32, remove bool) subscriber {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subs[id]
	if remove {
		delete(c.subs, id)
	}
	return s
}

// write sends what is queued, and a Ping when nothing was for a third of the time after which the server closes. It also gives
// the connection up if a request stays unanswered for too long.
func (c *conn) write() {
	defer c.running.Done()
	w := bufio.NewWriterSize(c.nc, socketBuffer)
	idle := time.Duration(c.welcome.IdleTimeoutMS) * time.Millisecond / 3
	if idle == 0 {
		idle = time.Hour
	}
	idle = max(idle, 10*time.Millisecond)
	ticks := time.NewTicker(max(time.Millisecond, min(idle/4, c.timeout/4)))
	defer ticks.Stop()
	lastSent := time.Now()
	for {
		select {
		case <-c.ended:
			return
		case <-ticks.C:
			if c.overdue() {
				c.end(fail(CodeConnectionLost, nil, "the server left a request unanswered for "+c.timeout.String()))
				return
			}
			if time.Since(lastSent) < idle {
				continue
			}
			f, ok := c.pingFrame()
			if !ok {
				continue
			}
			if err := c.put(w, f); err != nil {
				return
			}
		case o := <-c.out:
			if err := c.put(w, o); err != nil {
				return
			}
		}
		lastSent = time.Now()
	}
}

// put writes one frame and whatever else is queued, and flushes.
func (c *conn) put(w *bufio.Writer, o outgoing) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	for {
		_, err := w.Write(o.head)
		if err == nil && len(o.body) > 0 {
			_, err = w.Write(o.body)
		}
		if err == nil {
			select {
			case o = <-c.out:
				continue
			default:
				err = w.Flush()
			}
		}
		if err != nil {
			c.end(fail(CodeConnectionLost, err, "the connection ended: "+err.Error()))
		}
		return err
	}
}

// overdue tells whether some request has waited longer than a request may.
func (c *conn) overdue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		if time.Since(call.since) > c.timeout {
			return true
		}
	}
	return false
}

func (c *conn) pingFrame() (outgoing, bool) {
	select {
	case c.slots <- struct{}{}:
	default:
		return outgoing{}, false // a thousand answers are awaited: that keeps it alive
	}
	id, err := c.register(new(wire.Ping).Kind(), func(*wire.Frame, *Error) {})
	if err != nil {
		<-c.slots
		return outgoing{}, false
	}
	return outgoing{head: (&wire.Frame{Kind: new(wire.Ping).Kind(), Correlation: id, Control: []byte{0, 0}}).Head()}, true
}

// register makes room for an answer; the caller holds a slot.
func (c *conn) register(kind uint16, done func(*wire.Frame, *Error)) (uint32, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, c.cause
	}
	for {
		c.lastID++
		if _, taken := c.calls[c.lastID]; c.lastID != 0 && !taken {
			break
		}
	}
	c.calls[c.lastID] = &call{kind: kind, since: time.Now(), done: done}
	return c.lastID, nil
}

// start sends a request; its body, if it has one, is in parts. done gets its answer exactly once, on another goroutine, and must not wait. An error means that
// nothing was sent and done will not be called.
func (c *conn) start(ctx context.Context, request wire.Message, body [2][]byte, done func(*wire.Frame, *Error)) *Error {
	control, err := wire.Encode(request)
	if err != nil {
		return usage("argument", "%v", err)
	}
	if uint32(len(control)) > c.welcome.MaxControlBytes {
		return tooLarge("a request", uint64(c.welcome.MaxControlBytes), uint64(len(control)))
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return contextError(ctx, "before the request was sent")
	case <-c.ended:
		return c.lostBefore()
	}
	id, failed := c.register(request.Kind(), done)
	if failed != nil {
		return c.lostBefore()
	}
	f := wire.Frame{Kind: request.Kind(), Correlation: id, Control: control}
	head := f.HeadFor(len(body[0]) + len(body[1]))
	c.send(outgoing{head: append(head, body[0]...), body: body[1]})
	return nil
}

func (c *conn) lostBefore() *Error {
	return fail(CodeConnectionLost, c.cause, "the connection ended before the request was sent: "+c.cause.Error())
}

// send queues a frame; it waits only for the socket.
func (c *conn) send(o outgoing) {
	select {
	case c.out <- o:
	case <-c.ended:
	}
}

// notice sends a frame that has no answer.
func (c *conn) notice(m wire.Message) {
	control, err := wire.Encode(m)
	if err != nil {
		return // a notice has numbers only
	}
	c.send(outgoing{head: (&wire.Frame{Kind: m.Kind(), Control: control}).Head()})
}

// request sends a request and waits for its answer.
func (c *conn) request(ctx context.Context, request, reply wire.Message) *Error {
	type result struct {
		f   *wire.Frame
		err *Error
	}
	answer := make(chan result, 1)
	if err := c.start(ctx, request, [2][]byte{}, func(f *wire.Frame, err *Error) { answer <- result{f, err} }); err != nil {
		return err
	}
	select {
	case r := <-answer:
		if r.err != nil {
			return r.err
		}
		if err := wire.Decode(r.f.Control, reply); err != nil {
			bad := asError(badFrame(err))
			c.end(bad)
			return bad.maybe()
		}
		return nil
	case <-ctx.Done():
		return contextError(ctx, "while waiting for the answer").maybe()
	}
}

// newSubscription takes a number that the connection has not used.
func (c *conn) newSubscription(s subscriber) (uint32, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, c.cause
	}
	c.lastSub++
	c.subs[c.lastSub] = s
	return c.lastSub, nil
}
