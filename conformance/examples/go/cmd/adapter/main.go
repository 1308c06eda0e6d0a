// Command adapter lets the conformance runner drive the Go client: it reads commands as JSON lines from standard input, makes
// each of them one call of package levada, and writes what came of it. See conformance/adapter-protocol.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"example.org/levada"
)

// features are what this client can do; conformance/clients/go.yaml declares the same.
var features = []string{
	"core", "admin", "users", "produce", "enqueue", "send_batch", "consume", "seek", "pause", "cancel", "lz4", "idempotent",
	"reconnect", "password", "tls", "retry",
}

const maxLineBytes = 16 << 20

type command struct {
	ID       string          `json:"id"`
	Op       string          `json:"op"`
	On       string          `json:"on"`
	As       string          `json:"as"`
	Args     json.RawMessage `json:"args"`
	Announce bool            `json:"announce"`
}

type object = map[string]any

// unsupported is the answer to an operation or option that this client lacks.
type unsupported string

func (u unsupported) Error() string { return "unsupported: " + string(u) }

// fault is a mistake of the adapter or of the command, never of the client.
type fault string

func (f fault) Error() string { return string(f) }

// adapter holds the handles and the commands under way.
type adapter struct {
	writing sync.Mutex
	out     *bufio.Writer

	mu      sync.Mutex
	handles map[string]any
	running map[string]context.CancelFunc
	under   sync.WaitGroup
}

func main() {
	a := &adapter{out: bufio.NewWriter(os.Stdout), handles: map[string]any{}, running: map[string]context.CancelFunc{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 64<<10), maxLineBytes+1)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, "a line is no command:", err)
			os.Exit(1)
		}
		switch c.Op {
		case "hello":
			a.reply(c.ID, "ok", object{
				"adapter_protocol": []int{1}, "client": "levada-go-example", "client_version": levada.Version, "language": "go",
				"runtime": runtime.Version(), "api": "", "features": features, "wire_versions": []int{1}, "pid": os.Getpid(),
			})
		case "cancel":
			a.cancel(c)
		case "stats":
			a.stats(c)
		case "reset":
			a.reset()
			a.reply(c.ID, "ok", object{})
		case "shutdown":
			a.reset()
			a.reply(c.ID, "ok", object{})
			return
		default:
			a.start(c)
		}
	}
	a.reset()
}

// reply writes one line and flushes it.
func (a *adapter) reply(id string, fields ...any) {
	line := object{"id": id}
	for i := 0; i+1 < len(fields); i += 2 {
		line[fields[i].(string)] = fields[i+1]
	}
	text, err := json.Marshal(line)
	if err != nil {
		text, _ = json.Marshal(object{"id": id, "adapter_error": err.Error()})
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	_, _ = a.out.Write(append(text, '\n'))
	if a.out.Flush() != nil {
		os.Exit(1)
	}
}

// start runs a command on a goroutine of its own.
func (a *adapter) start(c command) {
	ctx, cancel := context.WithCancel(context.Background())
	a.mu.Lock()
	a.running[c.ID] = cancel
	a.under.Add(1)
	a.mu.Unlock()
	go func() {
		defer a.under.Done()
		defer cancel()
		started := func() {
			if c.Announce {
				a.reply(c.ID, "started", true)
			}
		}
		result, err := a.run(ctx, c, started)
		a.mu.Lock()
		delete(a.running, c.ID)
		a.mu.Unlock()
		a.answer(ctx, c.ID, result, err)
	}()
}

func (a *adapter) answer(ctx context.Context, id string, result any, err error) {
	var u unsupported
	var f fault
	switch {
	case err == nil:
		a.reply(id, "ok", result)
	case errors.As(err, &u):
		a.reply(id, "unsupported", string(u))
	case errors.As(err, &f):
		a.reply(id, "adapter_error", string(f))
	case ctx.Err() != nil && errors.Is(err, levada.CodeCancelled):
		a.reply(id, "cancelled", true, "err", errorValue(err))
	default:
		a.reply(id, "err", errorValue(err))
	}
}

// errorValue is the client's error as its user sees it.
func errorValue(err error) object {
	var e *levada.Error
	if !errors.As(err, &e) {
		return object{"code": 0, "name": "", "message": err.Error(), "native": natives(err)}
	}
	details := map[string]string{}
	for _, d := range e.Details {
		details[d.Name] = d.Value
	}
	return object{
		"code": e.Code, "name": e.Name, "class": e.Class.String(), "retriable": e.Retriable, "maybe_applied": e.MaybeApplied,
		"message": e.Message, "details": details, "native": natives(err),
	}
}

// natives are the types of an error and of those it wraps.
func natives(err error) []string {
	var list []string
	for ; err != nil; err = errors.Unwrap(err) {
		list = append(list, fmt.Sprintf("%T", err))
	}
	return list
}

func (a *adapter) cancel(c command) {
	var args struct{ Target string }
	_ = json.Unmarshal(c.Args, &args)
	a.mu.Lock()
	cancel := a.running[args.Target]
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	a.reply(c.ID, "ok", object{})
}

func (a *adapter) stats(c command) {
	a.mu.Lock()
	clients, producers, consumers, deliveries := 0, 0, 0, 0
	for _, h := range a.handles {
		switch h.(type) {
		case *levada.Client:
			clients++
		case *levada.Producer:
			producers++
		case *levada.Consumer:
			consumers++
		case *levada.Delivery:
			deliveries++
		}
	}
	inFlight := len(a.running)
	a.mu.Unlock()
	a.reply(c.ID, "ok", object{
		"handles":   object{"clients": clients, "producers": producers, "consumers": consumers, "deliveries": deliveries},
		"in_flight": inFlight, "goroutines": runtime.NumGoroutine(),
	})
}

const resetTimeout = 2 * time.Second

// reset gives up every command, closes every handle and forgets all names.
func (a *adapter) reset() {
	a.mu.Lock()
	for _, cancel := range a.running {
		cancel()
	}
	a.mu.Unlock()
	a.under.Wait()
	a.mu.Lock()
	handles := a.handles
	a.handles = map[string]any{}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), resetTimeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, h := range handles {
		if client, ok := h.(*levada.Client); ok { // which closes what was made from it
			closing.Add(1)
			go func() {
				defer closing.Done()
				_ = client.Close(ctx)
			}()
		}
	}
	closing.Wait()
}

// keep stores the result of an operation under the name the runner chose.
func (a *adapter) keep(name string, handle any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handles[name] = handle
}

// handle finds what an operation is called on.
func handle[T any](a *adapter, name string) (T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok := a.handles[name].(T)
	if !ok {
		return h, fault(fmt.Sprintf("%q is no handle of type %T", name, h))
	}
	return h, nil
}
