package controller

import "chronik/internal/kafka"

// topicNameMax is Kafka's limit: with "-", a partition number and a suffix the name of a directory.
const topicNameMax = 249

// checkTopicName holds a name to Kafka's rules.
func checkTopicName(name string) error {
	bad := func(format string, args ...any) error {
		return kafka.ErrInvalidTopic.With("Topic name is invalid: "+format, args...)
	}
	switch {
	case name == "":
		return bad("the empty string is not allowed")
	case name == "." || name == "..":
		return bad("'%s' is not allowed", name)
	case len(name) > topicNameMax:
		return bad("the length of '%s' is longer than the max allowed length %d", name[:topicNameMax], topicNameMax)
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return bad("%q contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}
