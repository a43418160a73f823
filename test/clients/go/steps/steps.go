package steps

import (
	"bytes"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

// Values are the same n values for everyone: varied lengths, an empty one among them, not all text.
func Values(n int) [][]byte {
	values := make([][]byte, n)
	for i := range values {
		if i != 7 {
			values[i] = append(fmt.Appendf(nil, "value-%d-", i), bytes.Repeat([]byte{byte(i)}, i*13%400)...)
		}
	}
	return values
}

// Same returns an error unless got holds each of want once, in any order.
func Same(got, want [][]byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values, want %d", len(got), len(want))
	}
	got, want = sorted(got), sorted(want)
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Errorf("value %.40q, want %.40q", got[i], want[i])
		}
	}
	return nil
}

func sorted(values [][]byte) [][]byte {
	values = append([][]byte(nil), values...)
	sort.Slice(values, func(i, j int) bool { return bytes.Compare(values[i], values[j]) < 0 })
	return values
}

var failed bool

// Run runs a step and prints how it went.
func Run(name string, step func() error) {
	start := time.Now()
	if err := step(); err != nil {
		failed = true
		fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("ok %s\n", name)
	fmt.Fprintf(os.Stderr, "%s took %v\n", name, time.Since(start).Round(time.Millisecond))
}

// Done ends the process, with 1 if a step failed.
func Done() {
	if failed {
		os.Exit(1)
	}
	os.Exit(0)
}

// Until calls check until it says true, or says after 90 s that what did not happen.
func Until(what string, check func() (bool, error)) error {
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if ok, err := check(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within 90 s: %s", what)
		}
	}
}
