package groups

import (
	"testing"

	"chronik/test/oracle/pair"
)

func TestAgainstApacheKafka(t *testing.T) {
	pair.AgainstApacheKafka(t, Settings, Talk, Known...)
}

// TestNextAgainstApacheKafka is about the protocol of KIP-848.
func TestNextAgainstApacheKafka(t *testing.T) {
	pair.AgainstApacheKafkaWith(t, Settings, OfApacheKafka, TalkNext, KnownNext...)
}

// TestLimitsAgainstApacheKafka is about the same with limits.
func TestLimitsAgainstApacheKafka(t *testing.T) {
	pair.AgainstApacheKafkaWith(t, LimitSettings, OfApacheKafka, TalkLimits)
}
