package data

import (
	"testing"

	"chronik/test/oracle/pair"
)

func TestAgainstApacheKafka(t *testing.T) {
	pair.AgainstApacheKafka(t, nil, Talk, Known...)
}
