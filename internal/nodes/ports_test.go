package nodes

import "testing"

// An address is given once, also where nobody listens on it in between, until all have been given.
func TestFreeAddressesAreGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 300 {
		addrs, err := FreeAddresses(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range addrs {
			if seen[addr] {
				t.Fatalf("%s was given twice", addr)
			}
			seen[addr] = true
		}
	}
}
