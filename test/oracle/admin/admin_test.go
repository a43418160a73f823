package admin

import (
	"testing"

	"chronik/test/oracle/pair"
)

func TestAgainstApacheKafka(t *testing.T) {
	pair.AgainstApacheKafka(t, nil, func(s *pair.Side) {
		Talk(s)
		Different(s)
	}, Known...)
}
