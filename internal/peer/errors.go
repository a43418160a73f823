package peer

import (
	"fmt"

	"chronik/internal/kafka"
)

// RemoteError is an error of a peer's handler that has no Kafka code.
type RemoteError struct {
	Broker kafka.BrokerID
	Method Method
	Text   string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("broker %d could not answer %s: %s", e.Broker, e.Method, e.Text)
}
