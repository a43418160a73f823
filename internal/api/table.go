package api

import "github.com/twmb/franz-go/pkg/kmsg"

// Key is one row of the table of APIs.
type Key struct {
	Key        int16
	MinVersion int16 // advertised
	MaxVersion int16
	MinServed  int16 // below it the answer is UNSUPPORTED_VERSION although the version is advertised
	handle     handler
}

// Name is Kafka's name of the API.
func (k *Key) Name() string { return kmsg.NameForKey(k.Key) }

// table is the only place that says which APIs and versions exist: ApiVersions, the version checks and docs/api.md come
// from it.
var table = []Key{}

func api(key, minVersion, maxVersion int16, h handler) Key {
	return Key{Key: key, MinVersion: minVersion, MaxVersion: maxVersion, MinServed: minVersion, handle: h}
}

// from says that versions below v are advertised for the sake of clients that look at the range, and refused.
func (k Key) from(v int16) Key {
	k.MinServed = v
	return k
}

// Table is every API that is served, by key.
func Table() []Key { return table }

// Lookup is the row of a key, nil if there is none.
func Lookup(key int16) *Key {
	if key < 0 || int(key) >= len(byKey) || byKey[key] == 0 {
		return nil
	}
	return &table[byKey[key]-1]
}

var byKey = func() (index [128]uint8) {
	for i := range table {
		index[table[i].Key] = uint8(i + 1)
	}
	return index
}()
