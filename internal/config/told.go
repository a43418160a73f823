package config

// toldKeys are broker keys of Kafka's that clients look up and nobody sets by that name: what they tell follows from other
// keys and from where the node is.
var toldKeys = []Key{
	{Name: "advertised.listeners", Type: List, Doc: "The addresses that clients are told to connect to. Set them with advertise."},
	{Name: "broker.id", Type: Int, Doc: "The number of this node in its cluster. Set it with node.id."},
	{Name: "listeners", Type: List, Doc: "The addresses that Kafka clients connect to. Set them with kafka."},
	{Name: "log.dirs", Type: List, Doc: "The data directory. Set it with data."},
}

// Told are the entries of the broker keys that only tell: values has one for each, or they are left out.
func Told(values map[string]string) []Entry {
	var entries []Entry
	for i := range toldKeys {
		k := &toldKeys[i]
		if value, ok := values[k.Name]; ok {
			entries = append(entries, Entry{Key: k, Value: value, Set: true, Source: FromStart,
				Synonyms: []Synonym{{Name: k.Name, Value: value, Source: FromStart}}})
		}
	}
	return entries
}
