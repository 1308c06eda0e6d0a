// Package wire holds the encodings of the Levada protocol, version 1: control parts, frames, batches, codecs and the
// partitioner. It does no I/O but reading a frame, keeps no state, and never allocates more than the bytes at hand justify.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// Message is the control part of one kind of frame.
type Message interface {
	// Kind is the number of the message on the wire.
	Kind() uint16
}

// U8List is a list of numbers of 8 bits; it is encoded like bytes.
type U8List []uint8

// ErrMalformed is wrapped by every error of a decoder in this package.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// New makes an empty message of a kind, or nil if version 1 has no such kind.
func New(kind uint16) Message {
	if make, ok := kinds[kind]; ok {
		return make()
	}
	return nil
}

// HasBody tells whether frames of a kind carry a body.
func HasBody(kind uint16) bool { return bodies[kind] }

// Encode writes the control part of a message. It fails only on text or bytes too long for their length field.
func Encode(m Message) ([]byte, error) {
	e := encoder{buf: make([]byte, 0, 64)}
	e.value(reflect.ValueOf(m).Elem())
	e.buf = append(e.buf, 0, 0) // no tagged fields in version 1
	return e.buf, e.err
}

// Decode reads a control part into m, which must be zero. It refuses whatever section 3 does not allow.
func Decode(control []byte, m Message) error {
	d := decoder{rest: control}
	d.value(reflect.ValueOf(m).Elem())
	d.tags()
	if d.err == nil && len(d.rest) != 0 {
		d.fail("%d bytes follow the tagged fields", len(d.rest))
	}
	if d.err != nil {
		return fmt.Errorf("%T: %w", m, d.err)
	}
	return nil
}

type encoder struct {
	buf []byte
	err error
}

func (e *encoder) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Uint8:
		e.buf = append(e.buf, uint8(v.Uint()))
	case reflect.Uint16:
		e.buf = binary.LittleEndian.AppendUint16(e.buf, uint16(v.Uint()))
	case reflect.Uint32:
		e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(v.Uint()))
	case reflect.Uint64:
		e.buf = binary.LittleEndian.AppendUint64(e.buf, v.Uint())
	case reflect.Int64:
		e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(v.Int()))
	case reflect.Bool:
		e.buf = append(e.buf, b2u(v.Bool()))
	case reflect.String:
		e.text(v.String())
	case reflect.Pointer:
		e.buf = append(e.buf, b2u(!v.IsNil()))
		if !v.IsNil() {
			e.value(v.Elem())
		}
	case reflect.Slice:
		e.list(v)
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			e.value(v.Field(i))
		}
	default:
		panic("wire: a message has a field of type " + v.Type().String())
	}
}

func (e *encoder) text(s string) {
	if len(s) > 0xFFFF {
		e.err = fmt.Errorf("text of %d bytes is longer than 65535", len(s))
		return
	}
	e.buf = binary.LittleEndian.AppendUint16(e.buf, uint16(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) list(v reflect.Value) {
	e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(v.Len()))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		e.buf = append(e.buf, v.Bytes()...)
		return
	}
	for i := 0; i < v.Len(); i++ {
		at := len(e.buf)
		e.buf = append(e.buf, 0, 0, 0, 0)
		e.value(v.Index(i))
		binary.LittleEndian.PutUint32(e.buf[at:], uint32(len(e.buf)-at-4))
	}
}

type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(format, args...)
		d.rest = nil
	}
}

// take gives the next n bytes, or fails. It compares before it narrows, so that a length of 4 GiB is only a failure.
func (d *decoder) take(n uint64) []byte {
	if d.err == nil && n > uint64(len(d.rest)) {
		d.fail("a field of %d bytes where %d are left", n, len(d.rest))
	}
	if d.err != nil {
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) value(v reflect.Value) {
	if d.err != nil {
		return
	}
	switch v.Kind() {
	case reflect.Uint8:
		v.SetUint(uint64(d.u8()))
		if e, ok := v.Interface().(interface{ valid() bool }); ok && !e.valid() {
			d.fail("%d is no value of %s", v.Uint(), v.Type().Name())
		}
	case reflect.Uint16:
		v.SetUint(uint64(d.u16()))
	case reflect.Uint32:
		v.SetUint(uint64(d.u32()))
	case reflect.Uint64:
		v.SetUint(d.u64())
	case reflect.Int64:
		v.SetInt(int64(d.u64()))
	case reflect.Bool:
		v.SetBool(d.bool())
	case reflect.String:
		b := d.take(uint64(d.u16()))
		if !utf8.Valid(b) {
			d.fail("text is not UTF-8")
		}
		v.SetString(string(b))
	case reflect.Pointer:
		if d.bool() {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(v.Elem())
		}
	case reflect.Slice:
		d.list(v)
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			d.value(v.Field(i))
		}
	default:
		panic("wire: a message has a field of type " + v.Type().String())
	}
}

func (d *decoder) bool() bool {
	b := d.u8()
	if b > 1 {
		d.fail("%d is no bool", b)
	}
	return b == 1
}

// list grows element by element: a count is believed only as far as bytes follow it.
func (d *decoder) list(v reflect.Value) {
	count := d.u32()
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b := d.take(uint64(count))
		if d.err == nil {
			v.SetBytes(append([]byte{}, b...))
		}
		return
	}
	if uint64(count)*4 > uint64(len(d.rest)) {
		d.fail("a list of %d where %d bytes are left", count, len(d.rest))
		return
	}
	for i := uint32(0); i < count && d.err == nil; i++ {
		element := decoder{rest: d.take(uint64(d.u32()))}
		if d.err != nil {
			return
		}
		item := reflect.New(v.Type().Elem()).Elem()
		element.value(item) // what follows the fields this version knows is skipped
		if element.err != nil {
			d.fail("element %d: %v", i, element.err)
			return
		}
		v.Set(reflect.Append(v, item))
	}
}

func (d *decoder) tags() {
	count := d.u16()
	last := -1
	for i := uint16(0); i < count && d.err == nil; i++ {
		tag := d.u16()
		d.take(uint64(d.u32()))
		if int(tag) <= last {
			d.fail("tag %d follows tag %d", tag, last)
		}
		if tag >= 0x8000 {
			d.fail("tag %d must be understood and is not", tag)
		}
		last = int(tag)
	}
}

func b2u(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func enumName(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", v)
}

func enumValue(names []string, name string) (uint8, bool) {
	for i, n := range names {
		if n == name {
			return uint8(i), true
		}
	}
	return 0, false
}
