package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"example.org/levada"
)

// integer reads a number or decimal text.
type integer struct {
	text string
}

func (n *integer) UnmarshalJSON(text []byte) error {
	n.text = string(bytes.Trim(text, `"`))
	return nil
}

func (n integer) uint64() (uint64, error) { return strconv.ParseUint(n.text, 10, 64) }

// arguments are those of a command that are still to be read.
type arguments map[string]json.RawMessage

func parse(raw json.RawMessage) (arguments, error) {
	a := arguments{}
	if len(raw) == 0 {
		return a, nil
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fault("arguments: " + err.Error())
	}
	return a, nil
}

// get reads one argument into a pointer and tells whether it was there; null is absent.
func (a arguments) get(name string, into any) (bool, error) {
	raw, ok := a[name]
	delete(a, name)
	if !ok || string(raw) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fault(fmt.Sprintf("argument %s: %v", name, err))
	}
	return true, nil
}

// reader collects the first error of several arguments.
type reader struct {
	args arguments
	err  error
}

func (r *reader) get(name string, into any) bool {
	if r.err != nil {
		return false
	}
	ok, err := r.args.get(name, into)
	r.err = err
	return ok
}

func (r *reader) text(name string) string {
	var s string
	r.get(name, &s)
	return s
}

func (r *reader) optionalText(name string) *string {
	var s string
	if r.get(name, &s) {
		return &s
	}
	return nil
}

func (r *reader) bool(name string) (b bool) {
	r.get(name, &b)
	return b
}

func (r *reader) uint(name string, into *uint64) bool {
	var n integer
	if !r.get(name, &n) {
		return false
	}
	v, err := n.uint64()
	if err != nil {
		r.err = fault(fmt.Sprintf("argument %s: %v", name, err))
		return false
	}
	*into = v
	return true
}

func (r *reader) uint32(name string) uint32 {
	var v uint64
	r.uint(name, &v)
	if v > math.MaxUint32 {
		r.err = fault(name + " is over 32 bits")
	}
	return uint32(v)
}

func (r *reader) duration(name string, into *time.Duration) bool {
	var n integer
	if !r.get(name, &n) {
		return false
	}
	ms, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil {
		r.err = fault(fmt.Sprintf("argument %s: %v", name, err))
		return false
	}
	*into = time.Duration(ms) * time.Millisecond
	return true
}

func (r *reader) optionalDuration(name string) *time.Duration {
	var d time.Duration
	if r.duration(name, &d) {
		return &d
	}
	return nil
}

func (r *reader) position(name string, into *levada.Position) {
	var text string
	if r.get(name, &text) {
		p, err := levada.ParsePosition(name, text)
		if err != nil {
			r.err = err
			return
		}
		*into = p
	}
}

// enum reads one of the names of the wire's enums.
func enum[T any](r *reader, name string, parse func(string) (T, bool), into *T) bool {
	var text string
	if !r.get(name, &text) {
		return false
	}
	v, ok := parse(text)
	if !ok {
		r.err = fault(fmt.Sprintf("argument %s: no value %q", name, text))
		return false
	}
	*into = v
	return true
}

// options gives a client's options the values in an argument, by their names.
func (r *reader) options(argument string, options interface{ Set(string, any) error }) error {
	raw := r.args[argument]
	if r.err != nil || len(raw) == 0 {
		return r.err
	}
	values := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&values); err != nil {
		return fault("argument " + argument + ": " + err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] == nil {
			continue
		}
		if err := options.Set(name, values[name]); err != nil {
			return err
		}
	}
	return nil
}

// generator makes bytes on the spot.
type generator struct {
	Gen         string
	Size        integer
	Index, Seed integer
}

func (g *generator) bytes(plus uint64) ([]byte, error) {
	number := func(n integer) uint64 {
		v, _ := n.uint64()
		return v
	}
	size, err := g.Size.uint64()
	if err != nil || size > 1<<30 {
		return nil, fault("a generator has no sane size")
	}
	index := number(g.Index) + plus
	state := number(g.Seed) + index*0xD1B54A32D192ED03
	b := make([]byte, 0, size+8)
	for k := uint64(0); uint64(len(b)) < size; k++ {
		word := uint64(0)
		switch g.Gen {
		case "zeros":
		case "seq":
			word = index + k
		case "random":
			state += 0x9E3779B97F4A7C15
			z := state
			z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
			z = (z ^ z>>27) * 0x94D049BB133111EB
			word = z ^ z>>31
		default:
			return nil, fault(fmt.Sprintf("no generator %q", g.Gen))
		}
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b[:size], nil
}

// bytesArgument reads base64 or a generator; nil is absent.
func bytesArgument(raw json.RawMessage, plus uint64) ([]byte, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] == '{' {
		var g generator
		if err := json.Unmarshal(raw, &g); err != nil {
			return nil, fault(err.Error())
		}
		return g.bytes(plus)
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, fault(err.Error())
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fault(err.Error())
	}
	return append([]byte{}, b...), nil
}

type messageIn struct {
	Payload, Key, ID json.RawMessage
	Headers          []struct {
		Name, Type string
		Value      json.RawMessage
	}
	TimestampUS *integer `json:"timestamp_us"`
	Partition   *uint32
	Count       *uint64
}

// message makes the n-th message that an entry stands for.
func (in *messageIn) message(n uint64) (*levada.Message, error) {
	m := &levada.Message{Partition: in.Partition}
	var err error
	if m.Payload, err = bytesArgument(in.Payload, n); err != nil {
		return nil, err
	}
	if m.Key, err = bytesArgument(in.Key, n); err != nil {
		return nil, err
	}
	id, err := bytesArgument(in.ID, n)
	if err != nil {
		return nil, err
	}
	if id != nil {
		if len(id) != 16 {
			return nil, unsupported("ids that are not of 16 bytes")
		}
		m.ID = (*[16]byte)(id)
	}
	if in.TimestampUS != nil && in.TimestampUS.text != "null" {
		us, err := strconv.ParseInt(in.TimestampUS.text, 10, 64)
		if err != nil {
			return nil, fault(err.Error())
		}
		m.TimestampUS = &us
	}
	for _, h := range in.Headers {
		value, err := headerIn(h.Type, h.Value, n)
		if err != nil {
			return nil, err
		}
		m.Headers = append(m.Headers, levada.Header{Name: h.Name, Value: value})
	}
	return m, nil
}

func headerIn(kind string, raw json.RawMessage, n uint64) (any, error) {
	if kind == "bytes" {
		b, err := bytesArgument(raw, n)
		return b, err
	}
	if kind == "bool" {
		var b bool
		err := json.Unmarshal(raw, &b)
		return b, err
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	var value any
	var err error
	switch kind {
	case "string":
		value = text
	case "i64":
		value, err = strconv.ParseInt(text, 10, 64)
	case "u64":
		value, err = strconv.ParseUint(text, 10, 64)
	case "f64":
		var bits uint64
		bits, err = strconv.ParseUint(text, 16, 64)
		value = math.Float64frombits(bits)
	default:
		err = fmt.Errorf("header type %q", kind)
	}
	if err != nil {
		return nil, fault(err.Error())
	}
	return value, nil
}

func messageOut(m *levada.Received) object {
	headers := []object{}
	for _, h := range m.Headers {
		kind, value := headerOut(h.Value)
		headers = append(headers, object{"name": h.Name, "type": kind, "value": value})
	}
	out := object{
		"partition": m.Partition, "offset": strconv.FormatUint(m.Offset, 10), "timestamp_us": strconv.FormatInt(m.TimestampUS, 10),
		"append_time_us": strconv.FormatInt(m.AppendTimeUS, 10), "payload": nil, "key": nil, "id": nil, "headers": headers,
	}
	if m.Payload != nil {
		sum := sha256.Sum256(m.Payload)
		out["payload"] = object{
			"length": len(m.Payload), "sha256": hex.EncodeToString(sum[:]),
			"first": base64.StdEncoding.EncodeToString(m.Payload[:min(64, len(m.Payload))]),
		}
	}
	if m.Key != nil {
		out["key"] = base64.StdEncoding.EncodeToString(m.Key)
	}
	if m.ID != nil {
		out["id"] = base64.StdEncoding.EncodeToString(m.ID[:])
	}
	return out
}

func headerOut(value any) (kind string, out any) {
	switch v := value.(type) {
	case string:
		return "string", v
	case []byte:
		return "bytes", base64.StdEncoding.EncodeToString(v)
	case bool:
		return "bool", v
	case int64:
		return "i64", strconv.FormatInt(v, 10)
	case uint64:
		return "u64", strconv.FormatUint(v, 10)
	case float64:
		return "f64", fmt.Sprintf("%016x", math.Float64bits(v))
	}
	return fmt.Sprintf("%T", value), nil
}

// record turns a record of the client into JSON: 64-bit numbers as text, bytes in base64, enums by name.
func record(value any) any { return plain(reflect.ValueOf(value)) }

func plain(v reflect.Value) any {
	if v.Kind() != reflect.Pointer && v.CanInterface() {
		if named, ok := v.Interface().(fmt.Stringer); ok {
			return named.String()
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		fields := object{}
		for i := 0; i < v.NumField(); i++ {
			fields[v.Type().Field(i).Tag.Get("json")] = plain(v.Field(i))
		}
		return fields
	case reflect.Slice:
		if b, ok := v.Interface().([]byte); ok {
			return base64.StdEncoding.EncodeToString(b)
		}
		list := []any{}
		for i := 0; i < v.Len(); i++ {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	return v.Interface()
}

func items[T any](list []T, err error) (any, error) {
	if list == nil {
		list = []T{}
	}
	return object{"items": record(list)}, err
}

func one[T any](value T, err error) (any, error) { return record(value), err }

func nothing(err error) (any, error) { return object{}, err }
