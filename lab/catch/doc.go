// Package catch is a mail server for testing programs that send mail: it takes
// mail for every address, keeps it in one mailbox, and shows it on a page, by
// POP3 and IMAP, and to programs over HTTP. It sends nothing on, to nobody.
//
// It owns the HTTP interface (docs/catch.md), the page, and the bound of what is
// kept: the oldest mail goes when there is more than Options.Messages or
// Options.Octets. The server is a node like any other, with node.Options.Catch.
//
// HTML of letters is a stranger's: it is served apart, under a policy that lets
// no script run, nothing be loaded and no form be sent, to a frame without an
// origin; attachments are downloads.
//
// A Catcher may be used concurrently. With a folder given, mail survives a crash
// as in any postrider; a temporary one is removed at the end.
package catch
