package groups

import "chronik/test/oracle/pair"

// KnownNext is where answers about consumer groups of KIP-848 differ from Apache Kafka's, each with its reason; docs/compatibility.md
// is made of it.
var KnownNext = []pair.Difference{}
