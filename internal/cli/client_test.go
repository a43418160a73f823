package cli

import (
	"net"
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

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
