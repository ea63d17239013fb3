// Package integration has tests only. They build the binary, run it as a user
// would, and speak to it with raw sockets and with real programs; it imports
// nothing of ours. They also hold the tree to its design: imports, package
// comments, given libraries.
//
// Programs that a test needs come from Debian packages (setup.sh); a missing
// one is a failure, never a skip. Every server runs on loopback ports of its own
// in a temporary directory, and is stopped by its process id.
//
// What crashes of the binary leave behind is what these tests are about; they
// keep nothing themselves.
package integration
