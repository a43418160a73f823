// Package config is chronik's configuration: the one table of broker keys and the one of topic keys (Kafka's names
// where they mean the same, chronik's own otherwise), their types, defaults and checks, and the typed values that the
// rest of the program reads.
//
// A key that is accepted is acted on. A key of Kafka's that chronik does not act on is refused by name, an unknown one
// with the place it came from and the nearest key that exists. Sources, strongest first: flag, --set, CHRONIK_*
// environment, TOML file, default; above them stand the values that clients set at run time, which live in the
// cluster's metadata and are handed in by the caller.
//
// It reads no file and no environment by itself. A [Config] is not changed once it is in use: [Config.WithDynamic]
// makes another. Start reading at config.go, then broker_keys.go and topic_keys.go.
package config
