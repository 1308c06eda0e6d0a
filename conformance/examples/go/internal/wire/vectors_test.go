package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// vectors reads the list of one file of protocol-spec/vectors/v1.
func vectors[T any](t *testing.T, file string) []T {
	t.Helper()
	dir := os.Getenv("LEVADA_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "protocol-spec", "vectors", "v1")
	}
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Vectors []T }
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&content); err != nil {
		t.Fatal(err)
	}
	if len(content.Vectors) == 0 {
		t.Fatalf("%s has no vectors", file)
	}
	return content.Vectors
}

// hexBytes are bytes in hexadecimal, or a byte sequence and how often it is repeated. nil is null.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(text []byte) error {
	var repeated struct {
		Count  int
		Repeat string
	}
	count := 1
	if text[0] == '{' {
		if err := json.Unmarshal(text, &repeated); err != nil {
			return err
		}
		count = repeated.Count
	} else {
		var plain *string
		if err := json.Unmarshal(text, &plain); err != nil {
			return err
		}
		if plain == nil {
			*h = nil
			return nil
		}
		repeated.Repeat = *plain
	}
	b, err := hex.DecodeString(repeated.Repeat)
	*h = bytes.Repeat(b, count)
	if *h == nil {
		*h = hexBytes{}
	}
	return err
}

// plain turns a message into what its vector's JSON decodes to.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		fields := map[string]any{}
		for i := 0; i < v.NumField(); i++ {
			fields[v.Type().Field(i).Tag.Get("json")] = plain(v.Field(i))
		}
		return fields
	case reflect.Slice:
		if b, ok := v.Interface().([]byte); ok {
			return hex.EncodeToString(b)
		}
		list := []any{}
		for i := 0; i < v.Len(); i++ {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case reflect.Bool:
		return v.Bool()
	case reflect.String:
		return v.String()
	}
	if named, ok := v.Interface().(fmt.Stringer); ok {
		return named.String()
	}
	return json.Number(fmt.Sprint(v.Interface()))
}

func TestEveryMessageIsReadAndWrittenAsItsVectorSays(t *testing.T) {
	seen := map[uint16]bool{}
	for _, v := range vectors[struct {
		Name, Message string
		Kind          uint16
		Control       hexBytes
		Fields        any
	}](t, "messages.json") {
		m := New(v.Kind)
		if m == nil || reflect.TypeOf(m).Elem().Name() != v.Message {
			t.Fatalf("%s: kind %#x is %T", v.Name, v.Kind, m)
		}
		seen[v.Kind] = true
		if err := Decode(v.Control, m); err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if got := plain(reflect.ValueOf(m)); !reflect.DeepEqual(got, v.Fields) {
			t.Errorf("%s: read as\n%v, wanted\n%v", v.Name, got, v.Fields)
		}
		if again, err := Encode(m); err != nil || !bytes.Equal(again, v.Control) {
			t.Errorf("%s: written as %x (%v)", v.Name, again, err)
		}
		for n := range v.Control {
			if err := Decode(v.Control[:n], New(v.Kind)); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s: its first %d bytes are accepted: %v", v.Name, n, err)
			}
		}
	}
	for kind := range kinds {
		if !seen[kind] {
			t.Errorf("no vector has kind %#x", kind)
		}
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	for _, v := range vectors[struct {
		Name    string
		Kind    uint16
		Control hexBytes
	}](t, "messages-refused.json") {
		if err := Decode(v.Control, New(v.Kind)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: accepted (%v)", v.Name, err)
		}
	}
}

func TestFramesAreReadAndWrittenAsTheirVectorsSay(t *testing.T) {
	for _, v := range vectors[struct {
		Name          string
		Kind          uint16
		Correlation   uint32
		Control, Body hexBytes
		Frame         hexBytes
	}](t, "frames.json") {
		f, err := ReadFrame(bytes.NewReader(v.Frame), MaxControlBytes, MaxBatchBytes)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if f.Kind != v.Kind || f.Correlation != v.Correlation || !bytes.Equal(f.Control, v.Control) || !bytes.Equal(f.Body, v.Body) || (f.Body == nil) != (v.Body == nil) {
			t.Errorf("%s: read as %+v", v.Name, f)
		}
		if again := append(f.Head(), f.Body...); !bytes.Equal(again, v.Frame) {
			t.Errorf("%s: written as %x", v.Name, again)
		}
		covered := len(v.Frame) - len(v.Body)
		for at := 0; at < covered; at++ {
			damaged := append([]byte{}, v.Frame...)
			damaged[at] ^= 0x40
			if _, err := ReadFrame(bytes.NewReader(damaged), MaxControlBytes, MaxBatchBytes); err == nil {
				t.Errorf("%s: accepted with byte %d damaged", v.Name, at)
			}
		}
		for n := range v.Frame {
			if _, err := ReadFrame(bytes.NewReader(v.Frame[:n]), MaxControlBytes, MaxBatchBytes); err == nil {
				t.Errorf("%s: its first %d bytes are accepted", v.Name, n)
			}
		}
	}
}

type batchVector struct {
	Name          string
	Codec         string
	BaseOffset    json.Number `json:"base_offset"`
	AppendTimeUS  json.Number `json:"append_time_us"`
	LeaderEpoch   uint32      `json:"leader_epoch"`
	ProducerID    json.Number `json:"producer_id"`
	ProducerEpoch uint32      `json:"producer_epoch"`
	FirstSequence json.Number `json:"first_sequence"`
	Stored        hexBytes
	Messages      []struct {
		Offset       json.Number
		TimestampUS  json.Number `json:"timestamp_us"`
		Payload, Key hexBytes
		ID           hexBytes
		Headers      []struct {
			Name  string
			Value map[string]any
		}
	}
}

func TestBatchesAreReadAndWrittenAsTheirVectorsSay(t *testing.T) {
	for _, v := range vectors[batchVector](t, "batches.json") {
		t.Run(v.Name, func(t *testing.T) {
			b, rest, err := ParseStored(v.Stored, MaxBatchBytes)
			if err != nil || len(rest) != 0 {
				t.Fatal(err, rest)
			}
			got := fmt.Sprintln(b.BaseOffset, b.AppendTimeUS, b.LeaderEpoch, b.ProducerID, b.ProducerEpoch, b.FirstSequence)
			if want := fmt.Sprintln(v.BaseOffset, v.AppendTimeUS, v.LeaderEpoch, v.ProducerID, v.ProducerEpoch, v.FirstSequence); got != want {
				t.Errorf("read as %s, wanted %s", got, want)
			}
			records, err := b.Records()
			if v.Codec == "zstd" {
				if err == nil {
					t.Fatal("a codec this client lacks was read")
				}
				return
			}
			if err != nil || len(records) != len(v.Messages) {
				t.Fatal(err, records)
			}
			for i, m := range v.Messages {
				r := records[i]
				if fmt.Sprintln(r.Offset, r.TimestampUS) != fmt.Sprintln(m.Offset, m.TimestampUS) || !same(r.Payload, m.Payload) || !same(r.Key, m.Key) {
					t.Errorf("message %d read as %.200v", i, r)
				}
				if (r.ID == nil) != (m.ID == nil) || r.ID != nil && !bytes.Equal(r.ID[:], m.ID) {
					t.Errorf("message %d has id %v", i, r.ID)
				}
				if len(r.Headers) != len(m.Headers) {
					t.Fatalf("message %d has headers %v", i, r.Headers)
				}
				for j, h := range m.Headers {
					if want := headerValue(t, h.Value); r.Headers[j].Name != h.Name || !sameHeader(r.Headers[j].Value, want) {
						t.Errorf("header %d is %v, not %v", j, r.Headers[j], want)
					}
				}
			}
			if b.Flags&batchSparse != 0 {
				return // version 1 clients do not write sparse batches
			}
			codec := map[string]uint8{"none": CodecNone, "lz4": CodecLz4}[v.Codec]
			produced, err := EncodeBatch(records, codec)
			if err != nil {
				t.Fatal(err)
			}
			Stamp(produced, b.ProducerID, b.ProducerEpoch, b.FirstSequence)
			again := AppendStored(nil, produced, b.BaseOffset, b.AppendTimeUS, b.LeaderEpoch)
			// A writer may use TS64 where it need not: the vector with times out of order does, this client does not.
			if codec == CodecNone && v.Name != "times out of order and far apart" && !bytes.Equal(again, v.Stored) {
				t.Errorf("written as %.400x", again)
			}
			back, _, err := ParseStored(again, MaxBatchBytes)
			if err != nil || back.Codec != codec {
				t.Fatal(err, back)
			}
			if twice, err := back.Records(); err != nil || !reflect.DeepEqual(twice, records) {
				t.Errorf("does not come back: %v", err)
			}
		})
	}
}

func same(got, want []byte) bool { return bytes.Equal(got, want) && (got == nil) == (want == nil) }

func sameHeader(got, want any) bool {
	if f, ok := got.(float64); ok {
		w, ok := want.(float64)
		return ok && math.Float64bits(f) == math.Float64bits(w)
	}
	return reflect.DeepEqual(got, want)
}

func headerValue(t *testing.T, v map[string]any) any {
	for kind, value := range v {
		text := fmt.Sprint(value)
		switch kind {
		case "string":
			return text
		case "bool":
			return value
		case "bytes":
			b, _ := hex.DecodeString(text)
			return append([]byte{}, b...)
		case "i64":
			n, _ := strconv.ParseInt(text, 10, 64)
			return n
		case "u64":
			n, _ := strconv.ParseUint(text, 10, 64)
			return n
		case "f64_bits":
			n, _ := strconv.ParseUint(text, 16, 64)
			return math.Float64frombits(n)
		}
	}
	t.Fatalf("header value %v", v)
	return nil
}

func TestMalformedBatchesAreRefused(t *testing.T) {
	for _, v := range vectors[struct {
		Name, Why string
		Produced  hexBytes
	}](t, "batches-refused.json") {
		b, err := ParseProduced(v.Produced, MaxBatchBytes)
		if err == nil {
			_, err = b.Records()
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: accepted (%v), although %s", v.Name, err, v.Why)
		}
		if damaged := strings.Contains(v.Name, "damaged"); errors.Is(err, ErrDamaged) != damaged {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

func TestNamesAndPartitions(t *testing.T) {
	for _, v := range vectors[struct {
		Name  string
		Valid bool
	}](t, "names.json") {
		if ValidName(v.Name) != v.Valid {
			t.Errorf("%q: %v", v.Name, !v.Valid)
		}
	}
	counts := []uint32{1, 2, 3, 8, 100, 4096}
	for _, v := range vectors[struct {
		Hash       string
		Key        hexBytes
		Partitions []uint32
	}](t, "partitioner.json") {
		if got := fmt.Sprintf("%016x", KeyHash(v.Key)); got != v.Hash {
			t.Errorf("hash of %x is %s", v.Key, got)
		}
		for i, count := range counts {
			if got := KeyPartition(v.Key, count); got != v.Partitions[i] {
				t.Errorf("%x of %d goes to %d", v.Key, count, got)
			}
		}
	}
}

func TestLz4BlocksComeBack(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for round := 0; round < 400; round++ {
		src := make([]byte, random.Intn(70000))
		for i := range src {
			if i >= 40 && random.Intn(10) != 0 {
				src[i] = src[i-1-random.Intn(40)]
			} else {
				src[i] = byte(random.Intn(1 << (1 + round%8)))
			}
		}
		packed := lz4Encode(src)
		if packed == nil {
			continue
		}
		back, err := lz4Decode(packed, len(src))
		if err != nil || !bytes.Equal(back, src) {
			t.Fatalf("round %d: %d bytes do not come back: %v", round, len(src), err)
		}
		for _, size := range []int{len(src) - 1, len(src) + 1} {
			if _, err := lz4Decode(packed, size); err == nil {
				t.Fatalf("round %d: accepted for %d bytes", round, size)
			}
		}
		packed[random.Intn(len(packed))] ^= 1 << random.Intn(8)
		_, _ = lz4Decode(packed, len(src)) // must not panic
		_, _ = lz4Decode(packed[:random.Intn(len(packed))], len(src))
	}
}
