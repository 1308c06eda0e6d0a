package levada

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Set gives an option the value it has in a file, a flag or an address, by the name that it has in every language, such as
// "request_timeout_ms". Values are text, numbers, booleans, lists and maps as encoding/json makes them, and numbers may be text.
// An option that does not exist, or a value it cannot have, is CLIENT_USAGE with the option's name.
func (o *Options) Set(name string, value any) error { return set(o, name, value) }

// Set is like Options.Set.
func (o *TopicOptions) Set(name string, value any) error { return set(o, name, value) }

// Set is like Options.Set.
func (o *TopicChanges) Set(name string, value any) error { return set(o, name, value) }

// Set is like Options.Set.
func (o *ProducerOptions) Set(name string, value any) error { return set(o, name, value) }

// Set is like Options.Set.
func (o *ConsumerOptions) Set(name string, value any) error { return set(o, name, value) }

// enums are the types of options whose values have names.
var enums = map[reflect.Type]func(string) (any, bool){
	reflect.TypeFor[Durability]():       func(s string) (any, bool) { return anyOf(ParseDurability(s)) },
	reflect.TypeFor[TopicCompression](): func(s string) (any, bool) { return anyOf(ParseTopicCompression(s)) },
	reflect.TypeFor[Compression]():      named(map[string]Compression{"topic": CompressionTopic, "none": CompressionNone, "lz4": CompressionLz4, "zstd": CompressionZstd}),
	reflect.TypeFor[OnCorrupt]():        named(map[string]OnCorrupt{"stop": CorruptStop, "skip": CorruptSkip}),
	reflect.TypeFor[OnTruncated]():      named(map[string]OnTruncated{"stop": TruncatedStop, "rewind": TruncatedRewind}),
	reflect.TypeFor[OnOutOfRange]():     named(map[string]OnOutOfRange{"stop": OutOfRangeStop, "earliest": OutOfRangeEarliest, "latest": OutOfRangeLatest}),
}

func anyOf[T any](v T, ok bool) (any, bool) { return v, ok }

func named[T any](values map[string]T) func(string) (any, bool) {
	return func(s string) (any, bool) {
		v, ok := values[s]
		return v, ok
	}
}

func set(options any, name string, value any) error {
	v := reflect.ValueOf(options).Elem()
	for i := 0; i < v.NumField(); i++ {
		if tag := v.Type().Field(i).Tag.Get("option"); tag != "" && tag == name {
			return assign(v.Field(i), name, value)
		}
	}
	return usage(name, "there is no option %q", name)
}

func assign(field reflect.Value, name string, value any) error {
	text, isText := value.(string)
	if parse := enums[field.Type()]; parse != nil {
		v, ok := parse(text)
		if !isText || !ok {
			return usage(name, "%s cannot be %v", name, value)
		}
		field.Set(reflect.ValueOf(v))
		return nil
	}
	switch target := field.Addr().Interface().(type) {
	case *Position:
		p, err := ParsePosition(name, fmt.Sprint(value))
		*target = p
		return err
	case *time.Duration:
		ms, err := strconv.ParseInt(fmt.Sprint(value), 10, 64)
		if err != nil || ms > math.MaxInt64/int64(time.Millisecond) || ms < math.MinInt64/int64(time.Millisecond) {
			return usage(name, "%s cannot be %v milliseconds", name, value)
		}
		*target = time.Duration(ms) * time.Millisecond
		return nil
	}
	switch field.Kind() {
	case reflect.Pointer:
		pointed := reflect.New(field.Type().Elem())
		if err := assign(pointed.Elem(), name, value); err != nil {
			return err
		}
		field.Set(pointed)
		return nil
	case reflect.String:
		if isText {
			field.SetString(text)
			return nil
		}
	case reflect.Bool:
		if b, err := strconv.ParseBool(strings.ToLower(fmt.Sprint(value))); err == nil {
			field.SetBool(b)
			return nil
		}
	case reflect.Uint32, reflect.Uint64:
		if n, err := strconv.ParseUint(fmt.Sprint(value), 10, field.Type().Bits()); err == nil {
			field.SetUint(n)
			return nil
		}
	case reflect.Slice:
		return assignList(field, name, value)
	case reflect.Map:
		return assignMap(field, name, value)
	}
	return usage(name, "%s cannot be %v", name, value)
}

func assignList(field reflect.Value, name string, value any) error {
	list, ok := value.([]any)
	if !ok {
		return usage(name, "%s is a list", name)
	}
	made := reflect.MakeSlice(field.Type(), len(list), len(list))
	for i, element := range list {
		if err := assign(made.Index(i), name, element); err != nil {
			return err
		}
	}
	field.Set(made)
	return nil
}

func assignMap(field reflect.Value, name string, value any) error {
	entries, ok := value.(map[string]any)
	if !ok {
		return usage(name, "%s is a map", name)
	}
	made := reflect.MakeMap(field.Type())
	for key, element := range entries {
		k, v := reflect.New(field.Type().Key()).Elem(), reflect.New(field.Type().Elem()).Elem()
		if err := assign(k, name, key); err != nil {
			return err
		}
		if err := assign(v, name, element); err != nil {
			return err
		}
		made.SetMapIndex(k, v)
	}
	field.Set(made)
	return nil
}
