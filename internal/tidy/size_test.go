package tidy

import (
	"bytes"
	"go/ast"
	"go/format"
	"path"
	"regexp"
	"testing"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 70
)

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || path.Dir(s.dir) == "test" {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > maxFileLines {
			t.Errorf("%s has %d lines, at most %d: split it along the request path", s.path, n, maxFileLines)
		}
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, at most %d", s.path, fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

// nothing tells what a file is about less than these names.
var emptyNames = regexp.MustCompile(`^(utils?|helpers?|common|misc|base|fix.*|phase.*|task.*|v2|new)(_test)?\.go$`)

func TestNames(t *testing.T) {
	docs, dirs := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if emptyNames.MatchString(path.Base(s.path)) {
			t.Errorf("%s: name the file after what it holds", s.path)
		}
		if path.Base(s.path) == "doc.go" && s.file.Doc != nil {
			docs[s.dir] = true
		}
		if !s.test {
			dirs[s.dir] = true
		}
	}
	for dir := range dirs {
		if !docs[dir] && path.Dir(dir) != "cmd" {
			t.Errorf("%s has no doc.go with a package comment", dir)
		}
	}
}

func TestFormatted(t *testing.T) {
	for _, s := range sources(t) {
		want, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		} else if !bytes.Equal(want, s.text) {
			t.Errorf("%s is not gofmt'ed", s.path)
		}
	}
}

// unfinished is what must not be left in code.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b|panic\("seam"\)`)

func TestNothingUnfinished(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "internal/tidy" {
			continue
		}
		if loc := unfinished.FindIndex(s.text); loc != nil {
			t.Errorf("%s:%d: %s", s.path, 1+bytes.Count(s.text[:loc[0]], []byte("\n")), s.text[loc[0]:loc[1]])
		}
	}
}
