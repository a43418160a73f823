package mutate

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	run     = flag.Bool("mutate", false, "run the mutations; without it they are only applied")
	records = flag.Bool("record", false, "write docs/mutations.md")
)

const page = "docs/mutations.md"

// mutation is the head of a patch file: lines "# key: value" before the first hunk.
type mutation struct {
	name   string
	file   string
	rule   string // the rule that it breaks, in a sentence
	run    string // arguments of go test
	env    string // NAME=VALUE, separated by blanks
	caught *regexp.Regexp
}

func load(t *testing.T, file string) mutation {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := mutation{name: strings.TrimSuffix(filepath.Base(file), ".patch"), file: file}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		key, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "#")), ":")
		switch value = strings.TrimSpace(value); key {
		case "rule":
			m.rule = value
		case "run":
			m.run = value
		case "env":
			m.env = value
		case "caught":
			m.caught = regexp.MustCompile(value)
		default:
			t.Fatalf("%s: %q is none of rule, run, env, caught", file, key)
		}
	}
	if m.rule == "" || m.run == "" || m.caught == nil {
		t.Fatalf("%s: it does not say rule, run and caught", file)
	}
	return m
}

func TestMutations(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("mutations/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutations: %v", err)
	}
	var table strings.Builder
	for _, file := range files {
		m := load(t, file)
		t.Run(m.name, func(t *testing.T) {
			tree := t.TempDir()
			copyTree(t, root, tree)
			apply(t, m, tree)
			if !*run {
				return
			}
			said, took := hunt(t, m, tree)
			t.Logf("%s: caught after %s: %s", m.rule, took.Round(100*time.Millisecond), said)
			fmt.Fprintf(&table, "| %s | %s | `%s` | %s |\n", m.name, m.rule, strings.TrimSpace(m.env+" go test "+m.run), said)
		})
	}
	if *records && !t.Failed() {
		record(t, filepath.Join(root, page), table.String())
	}
}

// hunt runs what must notice the mutation, and returns what it said.
func hunt(t *testing.T, m mutation, tree string) (string, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1"}, strings.Fields(m.run)...)...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), strings.Fields(m.env)...)
	started := time.Now()
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("NOT CAUGHT: %s\ngo test %s passes", m.rule, m.run)
	}
	if bytes.Contains(out, []byte("[build failed]")) {
		t.Fatalf("the mutated tree does not build:\n%s", out)
	}
	found := m.caught.Find(out)
	if found == nil {
		t.Fatalf("it fails, but not by what must notice (%s):\n%s", m.caught, tail(out, 6000))
	}
	return strings.ReplaceAll(string(bytes.TrimSpace(found)), "|", "\\|"), time.Since(started)
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// copyTree copies what git knows or would know: the work tree as it is.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.go", "go.mod", "go.sum", "*/testdata/*")
	list.Dir = from
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list the tree: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // deleted in the work tree
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, fs.FileMode(0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func apply(t *testing.T, m mutation, tree string) {
	t.Helper()
	patch, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "apply", "--recount", patch)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(tree))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s no longer applies; make it anew for the code as it is now: %v\n%s", m.file, err, out)
	}
}

// record keeps what caught which mutation, for people.
func record(t *testing.T, name, table string) {
	t.Helper()
	text := "# Mutations\n\nEach rule of the design broken once, on purpose, and what noticed. `make mutate` runs them again and writes this page; the patches are in\n" +
		"`test/mutate/mutations`. What notices is a checker of histories and disks, not an assertion beside the broken line.\n\n" +
		"| mutation | the rule that it breaks | what is run | what it said |\n| --- | --- | --- | --- |\n" + table
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
