// Package storetest has the suite that every engine of package mailstore
// passes, and the model engine, the plainest one that does: in memory, without
// files, good for the tests of those who use a store. What Run does not test
// is not a promise of the store.
package storetest
