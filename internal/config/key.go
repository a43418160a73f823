package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Type is a key's type, with the numbers of Kafka's DescribeConfigs.
type Type int8

// The types that keys have.
const (
	Boolean Type = 1
	String  Type = 2
	Int     Type = 3
	Short   Type = 4
	Long    Type = 5
	Double  Type = 6
	List    Type = 7
)

func (t Type) String() string {
	return map[Type]string{Boolean: "boolean", String: "string", Int: "int", Short: "short", Long: "long", Double: "double", List: "list"}[t]
}

// Key is one row of a table.
type Key struct {
	Name    string
	Type    Type
	Default string // "" where the default is no value
	Valid   string // for a person: what is accepted beyond the type
	Doc     string
	Dynamic bool     // clients may change it at run time
	Own     bool     // chronik's own, not one of Kafka's
	Flag    string   // the flag of `chronik start` that sets it too
	Topic   string   // on a broker key: the topic key whose default it is
	Before  []string // on a broker key: keys that win over this one, strongest first (log.retention.ms over .hours)

	set func(*Config, string) error
}

// HasDefault tells whether there is a value when nobody sets one.
func (k *Key) HasDefault() bool { return k.Default != "" || k.Type == List }

// Check tells what is wrong with a value.
func (k *Key) Check(value string) error {
	var scratch Config
	return k.set(&scratch, strings.TrimSpace(value))
}

type integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64
}

// number is a key whose value, times unit, goes into a field. A negative value is not multiplied: it stands for "none".
func number[T integer](name string, t Type, def, lowest, highest int64, field func(*Config) *T, doc string) Key {
	return scaled(name, t, def, lowest, highest, 1, field, doc)
}

func scaled[T integer](name string, t Type, def, lowest, highest, unit int64, field func(*Config) *T, doc string) Key {
	highest = min(highest, map[Type]int64{Int: math.MaxInt32, Short: math.MaxInt16, Long: math.MaxInt64}[t])
	k := Key{Name: name, Type: t, Doc: doc, Valid: numberRange(lowest, highest, t)}
	if def != none {
		k.Default = strconv.FormatInt(def, 10)
	}
	k.set = func(c *Config, value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number of type %s", value, t)
		}
		if n < lowest || n > highest {
			return fmt.Errorf("%d is out of range, want %s", n, numberRange(lowest, highest, t))
		}
		if n > 0 && n > math.MaxInt64/unit {
			n = math.MaxInt64
		} else if n > 0 {
			n *= unit
		}
		*field(c) = T(n)
		return nil
	}
	return k
}

// none is the default of a key that has none.
const none = math.MinInt64

func numberRange(lowest, highest int64, t Type) string {
	switch {
	case highest == math.MaxInt64 || t == Int && highest == math.MaxInt32 || t == Short && highest == math.MaxInt16:
		if lowest == math.MinInt64 {
			return ""
		}
		return fmt.Sprintf("at least %d", lowest)
	default:
		return fmt.Sprintf("%d to %d", lowest, highest)
	}
}

// duration is a key in milliseconds.
func duration(name string, t Type, def, lowest int64, field func(*Config) *time.Duration, doc string) Key {
	return scaled(name, t, def, lowest, math.MaxInt64, int64(time.Millisecond), field, doc)
}

func boolean(name string, def bool, field func(*Config) *bool, doc string) Key {
	return Key{Name: name, Type: Boolean, Default: strconv.FormatBool(def), Doc: doc, set: func(c *Config, value string) error {
		switch strings.ToLower(value) {
		case "true":
			*field(c) = true
		case "false":
			*field(c) = false
		default:
			return fmt.Errorf("%q is neither true nor false", value)
		}
		return nil
	}}
}

// never is a boolean key of Kafka's that chronik honours by never doing what it asks to be allowed.
func never(name, doc, why string) Key {
	return Key{Name: name, Type: Boolean, Default: "false", Valid: "false", Doc: doc, set: func(_ *Config, value string) error {
		switch strings.ToLower(value) {
		case "false":
			return nil
		case "true":
			return fmt.Errorf("true is not supported: %s", why)
		}
		return fmt.Errorf("%q is neither true nor false", value)
	}}
}

// text is a key whose value is taken as it is, once check (which may be nil) lets it pass.
func text(name, def string, field func(*Config) *string, check func(string) error, doc string) Key {
	return Key{Name: name, Type: String, Default: def, Doc: doc, set: func(c *Config, value string) error {
		if check != nil {
			if err := check(value); err != nil {
				return err
			}
		}
		*field(c) = value
		return nil
	}}
}

// oneOf is a key with named values; def is the first.
func oneOf[T any](name string, names []string, values []T, field func(*Config) *T, doc string) Key {
	return Key{Name: name, Type: String, Default: names[0], Valid: strings.Join(names, ", "), Doc: doc,
		set: func(c *Config, value string) error {
			for i, n := range names {
				if n == value {
					*field(c) = values[i]
					return nil
				}
			}
			return fmt.Errorf("%q is none of %s", value, strings.Join(names, ", "))
		}}
}

// words is a oneOf whose values are the names themselves.
func words(name string, names []string, field func(*Config) *string, doc string) Key {
	return oneOf(name, names, names, field, doc)
}

// SplitList reads a list value: elements separated by commas, blanks around them ignored.
func SplitList(value string) []string {
	var elements []string
	for e := range strings.SplitSeq(value, ",") {
		if e = strings.TrimSpace(e); e != "" {
			elements = append(elements, e)
		}
	}
	return elements
}

func (k Key) dynamic() Key          { k.Dynamic = true; return k }
func (k Key) own() Key              { k.Own = true; return k }
func (k Key) flag(name string) Key  { k.Flag = name; return k.own() }
func (k Key) valid(what string) Key { k.Valid = what; return k }
