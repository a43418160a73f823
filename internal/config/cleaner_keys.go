package config

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// cleanerKeys are those of log compaction, as far as they are the node's.
var cleanerKeys = []Key{
	boolean("log.cleaner.enable", true, func(c *Config) *bool { return &c.CleanerEnabled },
		"Whether logs of topics with cleanup.policy=compact are compacted. Without it they grow without bound, the broker's own among them."),
	number("log.cleaner.threads", Int, 1, 1, 64, func(c *Config) *int { return &c.CleanerThreads },
		"The number of logs that are compacted at a time."),
	number("log.cleaner.dedupe.buffer.size", Long, 128*mib, 64<<10, 1<<40, func(c *Config) *int64 { return &c.CleanerDedupeBytes },
		"The memory for the keys of the logs that are being compacted, of all threads together, in bytes: 24 for each key. A log with more keys is compacted in several passes. It is taken only while a log is compacted, and no more than that log needs.").dynamic(),
	number("log.cleaner.io.buffer.size", Int, 512<<10, 8<<10, math.MaxInt32, func(c *Config) *int { return &c.CleanerIOBytes },
		"The memory for reading and writing while logs are compacted, of all threads together, in bytes. A batch that is larger is held all the same.").dynamic(),
	fraction("log.cleaner.io.buffer.load.factor", 0.9, 0.01, 0.99, func(c *Config) *float64 { return &c.CleanerLoadFactor },
		"How full the memory for keys may become. More lets one pass compact more of a log, and makes the last keys slower to look up.").dynamic(),
	fraction("log.cleaner.io.max.bytes.per.second", math.MaxFloat64, 1024, math.MaxFloat64, func(c *Config) *float64 { return &c.CleanerBytesPerSecond },
		"The highest rate at which compaction reads and writes, of all threads together, in bytes per second.").dynamic(),
	duration("log.cleaner.backoff.ms", Long, 15_000, 1, func(c *Config) *time.Duration { return &c.CleanerBackoff },
		"How long compaction rests, in milliseconds, where no log needs it.").dynamic(),
	forTopic("log.cleaner.min.cleanable.ratio", "min.cleanable.dirty.ratio", 1).dynamic(),
	forTopic("log.cleaner.delete.retention.ms", "delete.retention.ms", 1).dynamic(),
	forTopic("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms", 1).dynamic(),
	forTopic("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms", 1).dynamic(),
}

// fraction is a key with a floating-point value.
func fraction(name string, def, lowest, highest float64, field func(*Config) *float64, doc string) Key {
	text := func(f float64) string {
		if f == math.MaxFloat64 {
			return "1.7976931348623157E308" // as Kafka's tools print it
		}
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	valid := fmt.Sprintf("%s to %s", text(lowest), text(highest))
	if highest == math.MaxFloat64 {
		valid = "at least " + text(lowest)
	}
	return Key{Name: name, Type: Double, Default: text(def), Valid: valid, Doc: doc, set: func(c *Config, value string) error {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(f) {
			return fmt.Errorf("%q is not a number of type double", value)
		}
		if f < lowest || f > highest {
			return fmt.Errorf("%s is out of range, want %s", value, valid)
		}
		*field(c) = f
		return nil
	}}
}
