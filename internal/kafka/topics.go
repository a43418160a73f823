package kafka

// The topics that brokers make for themselves.
const (
	OffsetsTopic          = "__consumer_offsets"
	TransactionStateTopic = "__transaction_state"
	ShareGroupStateTopic  = "__share_group_state"
	ClusterMetadataTopic  = "__cluster_metadata" // Kafka's name for the metadata log; here there is no such topic, and none may be made
)

// topicNameMax is the longest topic name, in bytes.
const topicNameMax = 249

// IsInternalTopic tells whether brokers use the topic for themselves.
func IsInternalTopic(name string) bool {
	return name == OffsetsTopic || name == TransactionStateTopic || name == ShareGroupStateTopic
}

// CheckTopicName is INVALID_TOPIC_EXCEPTION for a name that no topic can have.
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return ErrInvalidTopic.With("a topic name cannot be empty")
	case name == "." || name == "..":
		return ErrInvalidTopic.With("a topic name cannot be %q", name)
	case len(name) > topicNameMax:
		return ErrInvalidTopic.With("the topic name %q has %d characters, at most %d are possible", name, len(name), topicNameMax)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return ErrInvalidTopic.With("the topic name %q has a character other than ASCII letters, digits, '.', '_' and '-'", name)
		}
	}
	return nil
}
