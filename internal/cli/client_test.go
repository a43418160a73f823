package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// Whoever has heard from a broker is not told that none answers.
func TestWhatIsNotDoneInTime(t *testing.T) {
	c := &clientFlags{timeout: 5 * time.Second, bootstrap: []string{"here:1"}}
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for _, err := range []error{fmt.Errorf("create b: %w", context.DeadlineExceeded), dial} {
		c.answered = false
		if got := c.explain(err).Error(); !strings.Contains(got, "no broker answers at here:1") || !strings.Contains(got, "chronik start") {
			t.Error(got)
		}
		c.answered = true
		if got := c.explain(err).Error(); !strings.Contains(got, "not done within --timeout 5s") || !strings.Contains(got, "chronik cluster status") {
			t.Error(got)
		}
	}
}

// A cluster of `chronik dev` is found without --bootstrap although its first node is down; who is named is asked, and nobody else.
func TestSeeds(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	live, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	_ = dead.Close()
	usual := nearBootstrap
	defer func() { nearBootstrap = usual }()
	nearBootstrap = []string{dead.Addr().String(), live.Addr().String()}

	seeds := func(args ...string) (found []string) {
		cmd := &cobra.Command{Use: "x"}
		c := addClientFlags(cmd)
		cmd.AddCommand(&cobra.Command{Use: "y", RunE: func(*cobra.Command, []string) error { found = c.seeds(); return nil }})
		cmd.SetArgs(append([]string{"y"}, args...))
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		return found
	}
	t.Setenv(envBootstrap, "")
	if got := seeds(); !slices.Equal(got, nearBootstrap[1:]) {
		t.Errorf("asks %v", got)
	}
	if got := seeds("-b", defaultBootstrap); !slices.Equal(got, []string{defaultBootstrap}) {
		t.Errorf("told to ask %s, it asks %v", defaultBootstrap, got)
	}
	_ = live.Close()
	if got := seeds(); !slices.Equal(got, []string{defaultBootstrap}) {
		t.Errorf("where nobody is, it asks %v", got)
	}
	t.Setenv(envBootstrap, "there:1,here:2")
	if got := seeds(); !slices.Equal(got, []string{"there:1", "here:2"}) {
		t.Errorf("asks %v", got)
	}
}
