package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
	gotoml "github.com/pelletier/go-toml/v2"
)

// EnvPrefix begins the names of the environment variables that set keys: CHRONIK_NUM_PARTITIONS is num.partitions.
const EnvPrefix = "CHRONIK_"

// EnvConfig names the variable that stands for the flag --config.
const EnvConfig = EnvPrefix + "CONFIG"

// Sources is what a configuration is loaded from, all optional.
type Sources struct {
	Flags    map[string]string // values of given flags, by key
	Set      []string          // KEY=VALUE, the later wins
	Environ  []string          // NAME=VALUE, as os.Environ has them
	FileName string            // for messages
	File     []byte            // TOML
}

// Load reads the sources: a flag wins over --set, --set over the environment, that over the file, and the file over the
// default. The error names every unknown key and bad value with its place and the nearest key.
func Load(src Sources) (*Config, error) {
	settings := map[string]Setting{}
	var errs []error
	add := func(name, value, place string) {
		if brokerIndex[name] == nil {
			errs = append(errs, fmt.Errorf("%s: %w", place, CheckBroker(name, value)))
			return
		}
		settings[name] = Setting{Value: value, Place: place}
	}
	if err := src.file(add); err != nil {
		errs = append(errs, err)
	}
	if err := src.environ(add); err != nil {
		errs = append(errs, err)
	}
	for _, s := range src.Set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("--set %s: want KEY=VALUE", s))
			continue
		}
		add(strings.TrimSpace(name), value, "--set")
	}
	for name, value := range src.Flags {
		add(name, value, "--"+brokerIndex[name].Flag)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return New(settings)
}

type addFunc = func(name, value, place string)

func (src *Sources) file(add addFunc) error {
	if src.FileName == "" {
		return nil
	}
	// Keys have dots in them, quoted or as tables of TOML: with a separator that is in none the two look alike once
	// it is replaced.
	const separator = "\x00"
	k := koanf.New(separator)
	if err := k.Load(content(src.File), toml.Parser()); err != nil {
		var at *gotoml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return fmt.Errorf("%s:%d:%d: %s", src.FileName, row, column, at.Error())
		}
		return fmt.Errorf("%s: %w", src.FileName, err)
	}
	values := k.All()
	for _, path := range slices.Sorted(maps.Keys(values)) {
		name := strings.ReplaceAll(path, separator, ".")
		place := src.FileName
		if line := lineOf(src.File, name); line > 0 {
			place = fmt.Sprintf("%s:%d", src.FileName, line)
		}
		add(name, tomlValue(values[path]), place)
	}
	return nil
}

func (src *Sources) environ(add addFunc) error {
	k := koanf.New("\x00")
	names := map[string]string{} // the variable by key
	err := k.Load(env.Provider("\x00", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return src.Environ },
		TransformFunc: func(variable, value string) (string, any) {
			if variable == EnvConfig || notAKey(variable) {
				return "", nil
			}
			name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, EnvPrefix), "_", "."))
			names[name] = variable
			return name, value
		},
	}), nil)
	if err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	values := k.All()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		add(name, tomlValue(values[name]), names[name])
	}
	return nil
}

// notAKey knows the variables that look like ours and are not: those that Kubernetes gives every container for a service
// that is called "chronik", and those of chronik's own tests.
func notAKey(variable string) bool {
	name := strings.TrimPrefix(variable, EnvPrefix)
	switch name {
	case "BOOTSTRAP", "PORT", "BIN", "SEEDS", "ORACLE", "REQUIRE_CLIENTS":
		return true
	}
	return strings.HasPrefix(name, "SERVICE_") || strings.HasPrefix(name, "PORT_") || strings.HasPrefix(name, "TEST_")
}

func tomlValue(v any) string {
	switch v := v.(type) {
	case []any:
		elements := make([]string, len(v))
		for i := range v {
			elements[i] = fmt.Sprint(v[i])
		}
		return strings.Join(elements, ",")
	case map[string]any: // an empty table
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// content is a koanf provider of bytes that were read already.
type content []byte

func (c content) ReadBytes() ([]byte, error) { return c, nil }

func (c content) Read() (map[string]any, error) { return nil, errors.New("not supported") }

// lineOf finds the line that sets a key, 0 if it is written in a way that this does not see (an inline table).
func lineOf(file []byte, name string) int {
	table := ""
	number := 0
	for line := range strings.Lines(string(file)) {
		number++
		line = strings.TrimSpace(line)
		if header, ok := strings.CutPrefix(line, "["); ok && strings.Contains(header, "]") {
			table = plainKey(header[:strings.IndexByte(header, ']')]) + "."
			continue
		}
		if key, _, ok := strings.Cut(line, "="); ok && table+plainKey(key) == name {
			return number
		}
	}
	return 0
}

func plainKey(key string) string {
	parts := strings.Split(key, ".")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return strings.NewReplacer(`"`, "", "'", "").Replace(strings.Join(parts, "."))
}
