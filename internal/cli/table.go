package cli

import (
	"slices"
	"strconv"
	"strings"
)

// sortRows sorts table rows by their columns, numbers as numbers.
func sortRows(rows [][]string) {
	slices.SortFunc(rows, func(a, b []string) int {
		for i := range a {
			x, err1 := strconv.ParseInt(a[i], 10, 64)
			y, err2 := strconv.ParseInt(b[i], 10, 64)
			if err1 == nil && err2 == nil && x != y {
				if x < y {
					return -1
				}
				return 1
			}
			if c := strings.Compare(a[i], b[i]); c != 0 {
				return c
			}
		}
		return 0
	})
}
