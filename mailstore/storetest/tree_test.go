package storetest

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTree compares the tree with a map, and its old versions with copies.
func TestTree(t *testing.T) {
	type version struct {
		tree tree[int, int]
		want map[int]int
	}
	rapid.Check(t, func(t *rapid.T) {
		now := version{tree[int, int]{compare: cmp.Compare[int]}, map[int]int{}}
		var past []version
		for range rapid.IntRange(0, 60).Draw(t, "operations") {
			past = append(past, version{now.tree, maps.Clone(now.want)})
			key := rapid.IntRange(0, 20).Draw(t, "key")
			if rapid.Bool().Draw(t, "remove") {
				now.tree = now.tree.remove(key)
				delete(now.want, key)
			} else {
				value := rapid.Int().Draw(t, "value")
				now.tree = now.tree.put(key, value)
				now.want[key] = value
			}
		}
		start := rapid.IntRange(0, 20).Draw(t, "start")
		for _, v := range append(past, now) {
			var keys []int
			v.tree.from(start, func(k, value int) bool {
				keys = append(keys, k)
				if got, ok := v.tree.get(k); !ok || got != value || value != v.want[k] {
					t.Fatalf("key %d: %d, want %d", k, got, v.want[k])
				}
				return true
			})
			want := slices.DeleteFunc(slices.Sorted(maps.Keys(v.want)), func(k int) bool { return k < start })
			if !slices.Equal(keys, want) {
				t.Fatalf("keys %v, want %v", keys, want)
			}
		}
	})
}
