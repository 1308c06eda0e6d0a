package levada

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.org/levada/internal/wire"
)

// Error is every error of this package but io.EOF, which ends a consumer with UntilEnd. What came from the server keeps the properties the
// server gave it, also if this client does not know the code.
//
// errors.Is compares with a Code or a Class: errors.Is(err, levada.CodeTopicNotFound), errors.Is(err, levada.ClassAuth).
type Error struct {
	// Code is the number, see section 10.2 of the specification.
	Code Code
	// Name is its name, or CODE_ and the number where this client does not know it.
	Name string
	// Class is the kind of error.
	Class Class
	// Retriable tells that the same call may succeed later.
	Retriable bool
	// MaybeApplied tells that the call may have taken effect although it failed.
	MaybeApplied bool
	// RetryAfter is how long the server wants to be left alone; 0 leaves that to the client.
	RetryAfter time.Duration
	// Message says what went wrong, for people.
	Message string
	// Details are named values, numbers in decimal.
	Details []Detail

	cause error
}

// Error is the message with name and details.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d): %s", e.Name, e.Code, e.Message)
	for i, d := range e.Details {
		b.WriteString([]string{" [", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "%s=%s", d.Name, d.Value)
	}
	if len(e.Details) > 0 {
		b.WriteString("]")
	}
	if e.MaybeApplied {
		b.WriteString(" (it may have taken effect)")
	}
	return b.String()
}

// Unwrap is the error underneath, such as that of the network or of a context.
func (e *Error) Unwrap() error { return e.cause }

// Is compares with a Code or a Class.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Code:
		return t == e.Code
	case Class:
		return t == e.Class
	}
	return false
}

// Detail gives a named value of the error.
func (e *Error) Detail(name string) (string, bool) {
	for _, d := range e.Details {
		if d.Name == name {
			return d.Value, true
		}
	}
	return "", false
}

// number gives a named value that is a number, or 0 and false.
func (e *Error) number(name string) (uint64, bool) {
	text, ok := e.Detail(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// Error makes a Code usable with errors.Is.
func (c Code) Error() string { return c.String() }

// String is the name of the code.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("CODE_%d", uint16(c))
}

// Error makes a Class usable with errors.Is.
func (c Class) Error() string { return c.String() }

// String is the name of the class.
func (c Class) String() string {
	if name, ok := classNames[c]; ok {
		return name
	}
	return fmt.Sprintf("class_%d", uint8(c))
}

const (
	flagRetriable    = 1
	flagMaybeApplied = 2
)

// serverError takes an error as the server sent it.
func serverError(m *wire.Error) *Error {
	return &Error{
		Code: Code(m.Code), Name: Code(m.Code).String(), Class: Class(m.Class), Retriable: m.Flags&flagRetriable != 0,
		MaybeApplied: m.Flags&flagMaybeApplied != 0, RetryAfter: time.Duration(m.RetryAfterMS) * time.Millisecond,
		Message: m.Message, Details: m.Details,
	}
}

// fail makes an error of this client, with details as names and values in turn.
func fail(code Code, cause error, message string, details ...string) *Error {
	known := clientErrors[code]
	e := &Error{Code: code, Name: code.String(), Class: known.class, Retriable: known.retriable, Message: message, cause: cause}
	for i := 0; i+1 < len(details); i += 2 {
		e.Details = append(e.Details, Detail{Name: details[i], Value: details[i+1]})
	}
	return e
}

// usage is the error of a call that cannot be right.
func usage(argument, format string, args ...any) *Error {
	return fail(CodeClientUsage, nil, fmt.Sprintf(format, args...), "argument", argument)
}

func tooLarge(what string, limit, size uint64) *Error {
	return fail(CodeTooLarge, nil, fmt.Sprintf("%s of %d bytes is over the limit of %d", what, size, limit),
		"limit", strconv.FormatUint(limit, 10), "size", strconv.FormatUint(size, 10))
}

func closedError(what string) *Error { return fail(CodeClosed, nil, "the "+what+" is closed") }

// maybe gives a copy of e that says it may have taken effect.
func (e *Error) maybe() *Error {
	copied := *e
	copied.MaybeApplied = true
	return &copied
}

// contextError tells why a context ended: CANCELLED, or CLIENT_TIMEOUT if it was its time.
func contextError(ctx context.Context, during string) *Error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fail(CodeClientTimeout, ctx.Err(), "no answer in time, "+during)
	}
	return fail(CodeCancelled, ctx.Err(), "given up by the caller, "+during)
}

// asError turns whatever came up into an *Error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return fail(CodeClientInternal, err, err.Error())
}
