package config

import "strconv"

// Source says where a value comes from, with the numbers of Kafka's DescribeConfigs.
type Source int8

// The sources, strongest first.
const (
	FromTopic      Source = 1 // set on the topic
	FromBroker     Source = 2 // set by a client on this broker
	FromAllBrokers Source = 3 // set by a client on all brokers
	FromStart      Source = 4 // given when the node was started
	FromDefault    Source = 5
	FromGroup      Source = 8 // set on the group
)

// Layers are the places that values come from, for answers that tell them apart.
type Layers struct {
	Start      *Config
	AllBrokers map[string]string // what clients have set on all brokers
	ThisBroker map[string]string // and on this one
}

// Entry is a key's value and where it and its weaker rivals come from, strongest first.
type Entry struct {
	Key      *Key
	Value    string
	Set      bool // there is a value
	Source   Source
	Synonyms []Synonym
}

// Synonym is a value for the same thing from one place.
type Synonym struct {
	Name   string
	Value  string
	Source Source
}

// Broker is the entry of a broker key.
func (l *Layers) Broker(k *Key) Entry {
	synonyms := l.find(append(k.Before[:len(k.Before):len(k.Before)], k.Name))
	for len(synonyms) > 0 && synonyms[0].Name != k.Name {
		synonyms = synonyms[1:] // a stronger key's: its own entry tells
	}
	e := Entry{Key: k, Source: FromDefault, Synonyms: synonyms, Set: k.Type == List}
	if len(synonyms) > 0 {
		e.Value, e.Set, e.Source = synonyms[0].Value, true, synonyms[0].Source
	}
	return e
}

// Topic is the entry of a topic key, for a topic with these overrides.
func (l *Layers) Topic(k *Key, overrides map[string]string) Entry {
	e := Entry{Key: k, Source: FromDefault, Set: true, Value: k.Default}
	if value, ok := overrides[k.Name]; ok {
		e.Synonyms = append(e.Synonyms, Synonym{Name: k.Name, Value: value, Source: FromTopic})
	}
	e.Synonyms = append(e.Synonyms, l.find(defaultsOf(k.Name))...)
	if len(e.Synonyms) > 0 {
		first := e.Synonyms[0]
		e.Source, e.Value = first.Source, first.Value
		if first.Source != FromTopic {
			e.Value = inTopicUnit(first)
		}
	}
	return e
}

// Group is the entry of a group's key, for a group with these values.
func (l *Layers) Group(k *Key, values map[string]string) Entry {
	e := Entry{Key: k, Synonyms: l.find(k.Before), Set: true}
	if value, ok := values[k.Name]; ok {
		e.Synonyms = append([]Synonym{{Name: k.Name, Value: value, Source: FromGroup}}, e.Synonyms...)
	}
	e.Value, e.Source = e.Synonyms[0].Value, e.Synonyms[0].Source
	return e
}

// defaultsOf names the broker keys that give a topic key its default, strongest first.
func defaultsOf(topicKey string) []string {
	var names []string
	for i := range brokerKeys {
		if k := &brokerKeys[i]; k.Topic == topicKey && len(k.Before) >= len(names) {
			names = append(k.Before[:len(k.Before):len(k.Before)], k.Name)
		}
	}
	return names
}

// find collects what the layers have for the names, layer by layer and name by name, strongest first.
func (l *Layers) find(names []string) []Synonym {
	var found []Synonym
	for _, layer := range []struct {
		source Source
		get    func(string) (string, bool)
	}{
		{FromBroker, func(n string) (string, bool) { v, ok := l.ThisBroker[n]; return v, ok }},
		{FromAllBrokers, func(n string) (string, bool) { v, ok := l.AllBrokers[n]; return v, ok }},
		{FromStart, func(n string) (string, bool) { s, ok := l.Start.set[n]; return s.Value, ok }},
		{FromDefault, func(n string) (string, bool) { d := brokerIndex[n].Default; return d, d != "" }},
	} {
		for _, n := range names {
			if v, ok := layer.get(n); ok {
				found = append(found, Synonym{Name: n, Value: v, Source: layer.source})
			}
		}
	}
	return found
}

// inTopicUnit turns hours and minutes into milliseconds.
func inTopicUnit(s Synonym) string {
	unit := map[string]int64{"log.retention.hours": hour, "log.retention.minutes": minute, "log.roll.hours": hour}[s.Name]
	n, err := strconv.ParseInt(s.Value, 10, 64)
	if unit == 0 || err != nil || n < 0 {
		return s.Value
	}
	return strconv.FormatInt(n*unit, 10)
}
