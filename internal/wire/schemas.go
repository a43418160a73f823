package wire

import "strconv"

const maxKey = 128

// compiled finds a schema by its API key.
var compiled = func() (byKey [maxKey]*schema) {
	for i := range schemas {
		s := &schemas[i]
		s.compile()
		byKey[s.key] = s
	}
	return byKey
}()

func schemaOf(key int16) *schema {
	if key < 0 || key >= maxKey {
		return nil
	}
	return compiled[key]
}

func programOf(key, version int16) *program {
	s := schemaOf(key)
	if s == nil || version < s.min || version > s.max {
		return nil
	}
	return &s.programs[version-s.min]
}

// KeyName is Kafka's name of an API key, or its number where the guard does not know it.
func KeyName(key int16) string {
	if s := schemaOf(key); s != nil {
		return s.name
	}
	return "API key " + strconv.Itoa(int(key))
}

// Flexible tells whether a version of an API has compact lengths and tagged fields (KIP-482). False for a key that the
// guard does not know.
func Flexible(key, version int16) bool {
	s := schemaOf(key)
	return s != nil && version >= s.flexible
}

// Versions is the range of versions that the guard can walk; ok is false for an unknown key.
func Versions(key int16) (minVersion, maxVersion int16, ok bool) {
	s := schemaOf(key)
	if s == nil {
		return 0, 0, false
	}
	return s.min, s.max, true
}
