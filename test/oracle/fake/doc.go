// Package fake has the conversations of admin, data and groups with franz-go's kfake and with chronik in every test run,
// without Java. kfake is a fake and no judge: where it differs from Apache Kafka, with which the same conversations are
// compared by `make oracle`, that is listed in known_test.go with the reason. Start reading at fake_test.go.
package fake
