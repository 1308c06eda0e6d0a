// Package levada is a client of Levada, a server of durable message streams, in pure Go. It was written from the
// specification of the protocol alone, as an example of how a language without an official client gets one.
//
//	options := levada.DefaultOptions()
//	options.TokenFile = "levada-data/root.token"
//	client, err := levada.Connect(ctx, options)
//	...
//	defer client.Close(ctx)
//	producer, err := client.Producer(ctx, "shop/orders", nil)
//	receipt, err := producer.Send(ctx, &levada.Message{Payload: []byte("hello")})
//	consumer, err := client.Consumer(ctx, "shop/orders", nil)
//	message, err := consumer.Receive(ctx)
//
// A Client keeps one connection and repairs it when it is needed. Everything may be used by many goroutines at once, but that a
// Consumer has one receive at a time. Every call ends when its context does.
package levada

import (
	"context"
	"errors"
	"math/rand"
	"sync"
	"time"

	"example.org/levada/internal/wire"
)

// Client is a connection to a server, repaired when it is lost, and what was made from it.
type Client struct {
	options *Options
	ctx     context.Context // ends with the client
	cancel  context.CancelFunc

	mu       sync.Mutex
	closed   bool
	conn     *conn
	dialling *dialling
	ticket   []byte
	info     ServerInfo
	parts    map[part]struct{}
	running  sync.WaitGroup
}

// part is a producer or a consumer.
type part interface{ Close(context.Context) error }

// dialling is an attempt to connect that callers share. It goes on while any of them waits.
type dialling struct {
	done    chan struct{}
	err     error // the last failure; final once done is closed without a connection
	waiters int
	cancel  context.CancelFunc
}

// ServerInfo is what the server told at the last handshake.
type ServerInfo struct {
	ServerVersion   string  `json:"server_version"`
	ClusterID       []byte  `json:"cluster_id"`
	NodeID          uint32  `json:"node_id"`
	ShardCount      uint16  `json:"shard_count"`
	MaxPayloadBytes uint32  `json:"max_payload_bytes"`
	MaxBatchBytes   uint32  `json:"max_batch_bytes"`
	User            *string `json:"user"`
	Role            *Role   `json:"role"`
}

// Connect connects and authenticates. It fails after one attempt; later losses are repaired when the connection is needed.
func Connect(ctx context.Context, options *Options) (*Client, error) {
	if options == nil {
		options = DefaultOptions()
	}
	checked, err := options.check()
	if err != nil {
		return nil, err
	}
	c := &Client{options: checked, parts: map[part]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	conn, err := c.attempt(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.conn = conn
	return c, nil
}

// attempt dials once and remembers what the handshake told.
func (c *Client) attempt(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.ConnectTimeout)
	defer cancel()
	c.mu.Lock()
	ticket := c.ticket
	c.ticket = nil // one that is refused is not shown again; one that serves is replaced by the next
	c.mu.Unlock()
	conn, err := dial(ctx, c.options, ticket)
	if err != nil {
		return nil, err
	}
	w := &conn.welcome
	info := ServerInfo{
		ServerVersion: w.ServerVersion, ClusterID: w.ClusterID, NodeID: w.NodeID, ShardCount: w.ShardCount,
		MaxPayloadBytes: w.MaxPayloadBytes, MaxBatchBytes: w.MaxBatchBytes,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := conn.user; u != nil {
		info.User, info.Role = &u.User, &u.Role
		c.ticket = u.Ticket
	}
	c.info = info
	return conn, nil
}

// acquire gives a live connection, and waits for one if there is none. It fails with ctx, with the client, and when an
// attempt fails in a way that another would too.
func (c *Client) acquire(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, closedError("client")
		}
		if c.conn != nil && c.conn.alive() {
			defer c.mu.Unlock()
			return c.conn, nil
		}
		d := c.dialling
		if d == nil {
			dialContext, cancel := context.WithCancel(c.ctx)
			d = &dialling{done: make(chan struct{}), cancel: cancel}
			c.dialling = d
			c.running.Add(1)
			go c.dial(dialContext, d)
		}
		d.waiters++
		c.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
		}
		c.mu.Lock()
		d.waiters--
		if d.waiters == 0 {
			d.cancel()
		}
		last := d.err
		c.mu.Unlock()
		if ctx.Err() != nil {
			e := contextError(ctx, "while connecting")
			if last != nil && e.Code == CodeClientTimeout {
				return nil, last // says more
			}
			return nil, e
		}
		if last != nil {
			return nil, last
		}
	}
}

// dial tries to connect until it works, cannot work, or nobody waits any more.
func (c *Client) dial(ctx context.Context, d *dialling) {
	defer c.running.Done()
	defer d.cancel()
	wait := backoff{floor: c.options.BackoffFloor, ceiling: c.options.BackoffCeiling}
	for {
		conn, err := c.attempt(ctx)
		c.mu.Lock()
		if conn != nil && c.closed {
			conn.end(closedError("client"))
		} else if conn != nil {
			c.conn = conn
		}
		d.err = err
		over := err == nil || ctx.Err() != nil || !asError(err).Retriable
		if over {
			if err != nil && ctx.Err() != nil {
				d.err = nil // whoever waits now begins anew
			}
			c.dialling = nil
			close(d.done)
		}
		c.mu.Unlock()
		if over {
			return
		}
		sleep(ctx, wait.step(asError(err)))
	}
}

// backoff waits longer from time to time, with jitter so that clients do not come back all at once.
type backoff struct {
	floor, ceiling, next time.Duration
}

func (b *backoff) step(err *Error) time.Duration {
	b.next = min(b.ceiling, max(b.floor, 2*b.next))
	wait := b.next/2 + time.Duration(rand.Int63n(int64(b.next/2)+1))
	if err != nil {
		wait = max(wait, err.RetryAfter)
	}
	return wait
}

func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// maxBroken is how often a request that only reads is sent again because its connection broke the protocol.
const maxBroken = 2

// do sends a request and waits for its answer, again where that is safe: a request that changes something is sent again only
// if it certainly had no effect.
func (c *Client) do(ctx context.Context, request, reply wire.Message, changes bool) error {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, c.options.RequestTimeout)
	defer cancel()
	wait := backoff{floor: c.options.BackoffFloor, ceiling: c.options.BackoffCeiling}
	for broken := 0; ; {
		err := c.once(ctx, request, reply)
		if err == nil {
			return nil
		}
		retriable := err.Retriable && !err.MaybeApplied
		if !changes {
			e := *err
			e.MaybeApplied = false // reading has no effect
			err = &e
			if retriable = err.Retriable; err.Code == CodeBadFrame && broken < maxBroken {
				broken++ // it may have been damaged on the way
				retriable = true
			}
		}
		if ctx.Err() != nil || !retriable {
			return err
		}
		pause := wait.step(err)
		if until, _ := ctx.Deadline(); time.Until(until) <= pause {
			return err // there is no time for another attempt
		}
		if sleep(ctx, pause); ctx.Err() != nil {
			if outer.Err() != nil {
				return contextError(outer, "before another attempt")
			}
			return err
		}
	}
}

func (c *Client) once(ctx context.Context, request, reply wire.Message) *Error {
	conn, err := c.acquire(ctx)
	if err != nil {
		return asError(err)
	}
	failed := conn.request(ctx, request, reply)
	if failed != nil && c.isClosed() && errors.Is(failed, ClassConnection) {
		e := closedError("client")
		e.MaybeApplied = failed.MaybeApplied
		return e
	}
	return failed
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Ping asks for a sign of life and gives the time it took.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := c.do(ctx, &wire.Ping{}, &wire.Pong{}, false)
	return time.Since(start), err
}

// ServerInfo is what the server told at the last handshake.
func (c *Client) ServerInfo() (ServerInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ServerInfo{}, closedError("client")
	}
	return c.info, nil
}

// adopt remembers a producer or consumer, for Close.
func (c *Client) adopt(p part) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return closedError("client")
	}
	c.parts[p] = struct{}{}
	return nil
}

func (c *Client) forget(p part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.parts, p)
}

// Close lets every producer settle what it has taken, until ctx ends, then ends everything made from this client. No goroutine
// of it is left afterwards. Closing again does nothing.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	parts := make([]part, 0, len(c.parts))
	for p := range c.parts {
		parts = append(parts, p)
	}
	c.mu.Unlock()
	var wait sync.WaitGroup
	failures := make([]error, len(parts))
	for i, p := range parts {
		wait.Add(1)
		go func() {
			defer wait.Done()
			failures[i] = p.Close(ctx)
		}()
	}
	wait.Wait()
	c.mu.Lock()
	c.closed = true
	conn := c.conn
	c.conn = nil
	c.mu.Unlock()
	c.cancel()
	if conn != nil {
		conn.end(closedError("client"))
		conn.running.Wait()
	}
	c.running.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}
