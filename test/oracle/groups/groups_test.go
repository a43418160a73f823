package groups

import (
	"testing"

	"chronik/test/oracle/pair"
)

func TestAgainstApacheKafka(t *testing.T) {
	pair.AgainstApacheKafka(t, Settings, Talk, Known...)
}
