package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("\nnum.partition = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		want string // of both outputs together
	}{
		{[]string{"version"}, 0, "chronik " + Version},
		{[]string{"version", "--json"}, 0, `"version": "` + Version + `"`},
		{[]string{}, 0, "Exit codes"},
		{[]string{"start", "--help"}, 0, "--advertise"},
		{[]string{"help", "configuration"}, 0, "auto.create.topics.enable"},
		{[]string{"completion", "bash"}, 0, "__start_chronik"},
		{[]string{"completion", "tcsh"}, 2, "tcsh"},
		{[]string{"frob"}, 2, `unknown command "frob"`},
		{[]string{"topic", "frob"}, 2, `unknown command "frob" for "chronik topic" (see 'chronik topic --help')`},
		{[]string{"consume"}, 2, "requires at least 1 arg"},
		{[]string{"completion", "zsh"}, 0, "#compdef chronik"},
		{[]string{"start", "--no-such-flag"}, 2, "--no-such-flag"},
		{[]string{"start", "--set", "num.partition=3"}, 2, "did you mean num.partitions?"},
		{[]string{"start", "--set", "num.partitions=many"}, 2, "--set: num.partitions: \"many\" is not a number"},
		{[]string{"start", "--config", bad}, 2, bad + ":2: unknown key num.partition"},
		{[]string{"start", "--config", bad + ".none"}, 2, "--config: open " + bad + ".none"},
		{[]string{"start", "--kafka", "tls://127.0.0.1:0"}, 2, "needs tls.cert and tls.key"},
		{[]string{"topic", "list", "--timeout", "0s"}, 2, "--timeout 0s: want at least 1s"},
		{[]string{"topic", "list", "-b", ""}, 2, "--bootstrap is empty"},
		{[]string{"start", "--log-level", "loud"}, 2, "--log-level: log.level: \"loud\" is none of"},
	} {
		code, stdout, stderr := run(tc.args...)
		if code != tc.code || !strings.Contains(stdout+stderr, tc.want) {
			t.Errorf("chronik %s: exit code %d, want %d with %q:\n%s%s", strings.Join(tc.args, " "), code, tc.code, tc.want, stdout, stderr)
		}
	}
}

// The flags of every command's help fit into 80 columns.
func TestFlagsFitTheScreen(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if c.Runnable() {
			_, out, _ := run(append(strings.Fields(c.CommandPath())[1:], "--help")...)
			_, flags, _ := strings.Cut(out, "Flags:\n")
			for line := range strings.Lines(flags) {
				if len([]rune(line)) > helpColumns+1 {
					t.Errorf("%s: %d columns: %s", c.CommandPath(), len(line)-1, line)
				}
			}
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}

// Each command says by example how it is used.
func TestExamples(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if c.Runnable() && c.HasParent() && !c.Hidden && c.Name() != "help" && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}
