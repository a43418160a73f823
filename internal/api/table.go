package api

import "github.com/twmb/franz-go/pkg/kmsg"

// Key is one row of the table of APIs.
type Key struct {
	Key        int16
	MinVersion int16 // advertised
	MaxVersion int16
	handle     handler
}

// Name is Kafka's name of the API.
func (k *Key) Name() string { return kmsg.NameForKey(k.Key) }

// table is the only place that says which APIs and versions exist: ApiVersions, the version checks and docs/api.md come
// from it.
//
// Produce is advertised from version 0 because old librdkafka drops compression otherwise (KAFKA-18659); the server answers
// the versions below 3 with UNSUPPORTED_VERSION.
var table = []Key{
	api(0, 0, 13, (*Handlers).produce),
	api(1, 4, 18, (*Handlers).fetch),
	api(2, 1, 11, (*Handlers).listOffsets),
	api(3, 0, 13, (*Handlers).metadata),
	api(8, 2, 10, (*Handlers).offsetCommit),
	api(9, 1, 10, (*Handlers).offsetFetch),
	api(10, 0, 6, (*Handlers).findCoordinator),
	api(11, 0, 9, (*Handlers).joinGroup),
	api(12, 0, 4, (*Handlers).heartbeat),
	api(13, 0, 5, (*Handlers).leaveGroup),
	api(14, 0, 5, (*Handlers).syncGroup),
	api(15, 0, 6, (*Handlers).describeGroups),
	api(16, 0, 5, (*Handlers).listGroups),
	api(18, 0, 5, (*Handlers).apiVersions),
	api(19, 2, 7, (*Handlers).createTopics),
	api(20, 1, 6, (*Handlers).deleteTopics),
	api(21, 0, 2, (*Handlers).deleteRecords),
	api(22, 0, 5, (*Handlers).initProducerID),
	api(23, 2, 4, (*Handlers).offsetForLeaderEpoch),
	api(32, 1, 4, (*Handlers).describeConfigs),
	api(33, 0, 2, (*Handlers).alterConfigs),
	api(35, 1, 5, (*Handlers).describeLogDirs),
	api(37, 0, 3, (*Handlers).createPartitions),
	api(42, 0, 2, (*Handlers).deleteGroups),
	api(43, 0, 2, (*Handlers).electLeaders),
	api(44, 0, 1, (*Handlers).incrementalAlterConfigs),
	api(47, 0, 0, (*Handlers).offsetDelete),
	api(60, 0, 2, (*Handlers).describeCluster),
	api(68, 0, 1, (*Handlers).consumerGroupHeartbeat),
	api(69, 0, 1, (*Handlers).consumerGroupDescribe),
	api(74, 0, 1, (*Handlers).listConfigResources),
	api(75, 0, 0, (*Handlers).describeTopicPartitions),
}

func api(key, minVersion, maxVersion int16, h handler) Key {
	return Key{Key: key, MinVersion: minVersion, MaxVersion: maxVersion, handle: h}
}

// Table is every API that is served, by key.
func Table() []Key { return table }

// Lookup is the advertised version range of a key; ok is false for a key that is not served.
func (h *Handlers) Lookup(key int16) (minVersion, maxVersion int16, ok bool) {
	if k := lookup(key); k != nil {
		return k.MinVersion, k.MaxVersion, true
	}
	return 0, 0, false
}

func lookup(key int16) *Key {
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
