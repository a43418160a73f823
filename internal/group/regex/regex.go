package regex

import (
	"regexp"
	"slices"

	"chronik/internal/kafka"
)

// PatternMax is how many bytes a pattern may have: what RE2 compiles it to grows with it.
const PatternMax = 4096

// cachedMax bounds the patterns that a Cache remembers; beyond it they are resolved anew each time.
const cachedMax = 10_000

// Names are the topics of one version of the metadata.
type Names interface {
	Names() []string      // ascending
	Offset() kafka.Offset // of the metadata: equal offsets have equal names
}

// Validate tells whether the pattern is one of RE2; INVALID_REGULAR_EXPRESSION if not.
func Validate(pattern string) error {
	_, err := compile(pattern)
	return err
}

// compile makes a pattern match whole names only. It is compiled alone first: closing parentheses must not get around that.
func compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > PatternMax {
		return nil, kafka.ErrInvalidRegularExpression.With("the regular expression of a subscription has %d bytes, more than %d", len(pattern), PatternMax)
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, kafka.ErrInvalidRegularExpression.With("the subscription %q is not a regular expression of RE2: %v", pattern, err)
	}
	whole, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil { // such as too deep by one
		return nil, kafka.ErrInvalidRegularExpression.With("the subscription %q is not a regular expression of RE2: %v", pattern, err)
	}
	return whole, nil
}

// Cache resolves patterns, and remembers their topics for one version of the metadata.
type Cache struct {
	patterns map[string]*resolved
}

type resolved struct {
	compiled *regexp.Regexp // nil if the pattern is not valid
	offset   kafka.Offset   // what topics are of; -1 for nothing yet
	topics   []string
}

// NewCache makes an empty one.
func NewCache() *Cache { return &Cache{patterns: make(map[string]*resolved)} }

// Resolve are the topics whose whole name matches, ascending; the slice is shared and must not be changed. It is the same slice
// as before, unless other topics match now. A pattern that is not valid matches none, and nothing matches an internal topic.
//
// It is a matter of microseconds for a hundred topics, so that it has its place inside an operation: RE2 takes time in
// proportion to the name, whatever the pattern.
func (c *Cache) Resolve(pattern string, names Names) []string {
	r := c.patterns[pattern]
	if r == nil {
		r = &resolved{offset: -1}
		r.compiled, _ = compile(pattern)
		if len(c.patterns) < cachedMax {
			c.patterns[pattern] = r
		}
	}
	if r.compiled == nil || r.offset == names.Offset() && r.offset >= 0 {
		return r.topics
	}
	var topics []string
	for _, name := range names.Names() {
		if !kafka.IsInternalTopic(name) && r.compiled.MatchString(name) {
			topics = append(topics, name)
		}
	}
	if !slices.Equal(topics, r.topics) {
		r.topics = topics
	}
	r.offset = names.Offset()
	return r.topics
}

// Matches tells whether one topic's whole name matches.
func (c *Cache) Matches(pattern, name string) bool {
	if kafka.IsInternalTopic(name) {
		return false
	}
	if r := c.patterns[pattern]; r != nil {
		return r.compiled != nil && r.compiled.MatchString(name)
	}
	compiled, err := compile(pattern)
	return err == nil && compiled.MatchString(name)
}

// Forget drops what is known of patterns that keep does not want any more.
func (c *Cache) Forget(keep func(pattern string) bool) {
	for pattern := range c.patterns { // the order does not matter
		if !keep(pattern) {
			delete(c.patterns, pattern)
		}
	}
}
