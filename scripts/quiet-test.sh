#!/usr/bin/env bash
# Reads `go test -v` and prints results only: each failure with its output, every skip out loud, and the count of all.
# Ends with the tests' own verdict: 1 if anything failed.
set -u
awk '
  /^=== (RUN|PAUSE|CONT|NAME)/ { next }
  /^ *--- PASS/ { pass++; next }
  /^ *--- SKIP/ { skip++; skipped = skipped "\n  " $3; print; next }
  /^ *--- FAIL/ { fail++ }
  /^panic:|^FAIL/ { bad = 1 }
  { print }
  END {
    printf "%d passed, %d failed, %d skipped\n", pass, fail, skip
    if (skip) printf "SKIPPED:%s\n", skipped
    exit (fail || bad) ? 1 : 0
  }
'
