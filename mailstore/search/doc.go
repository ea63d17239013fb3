// Package search finds texts in messages: exactly, by reading them (Match), and
// fast, by an index of what was read before (Index). It never decides what a
// search means beyond its texts, and never changes a mailbox.
//
// # What is found
//
// A key is found where its text is a part of the text of a field (RFC 9051
// section 6.4.4), both folded (Fold): case makes no difference, nor do the ends
// of lines and the amount of white space; diacritics do. The text of a header
// field is its body with encoded words decoded, adjacent ones joined; that of the
// body is each text part decoded by transfer encoding and character set, HTML
// without markup, and the header fields and parts of messages within the message.
// Text is all of that, the names of header fields and those of attachments. Texts
// are apart: no key is found across the end of one.
//
// # The index
//
// It is derived: a file that is lost, damaged, of another version or of another
// store is made anew from the store, behind whatever else goes on. A goroutine
// reads what deliveries leave, in batches; UIDs below a mailbox's watermark are
// indexed. Lookup answers found, absent or not known for each message; who asks
// reads those that are not known, so that the result is always exact. Not known
// are
//
//   - messages at or above the watermark, and those that could not be read,
//   - those that have all words of a key that spans words (or is a part of a
//     header field that has no column of its own): words are indexed, not their
//     order,
//   - those of which the index has not all: limits are in build.go and words.go.
//
// A key within one word needs no reading: the vocabulary is looked through for
// the words that contain it. The words stand behind each other in memory for
// that, which takes less than a millisecond for 5 MB of them: less than it would
// take to load an index of trigrams over them. Subject, From, To, Cc and Bcc are
// kept whole, and so answer every key of up to 256 octets. Of a word of a key
// that is longer than 64 octets the first 64 are looked for.
//
// # The file, version 1
//
// search.db is an SQLite database of its own in the data directory. PRAGMA
// application_id is 0x50525345, user_version the version; a file of any other is
// removed. It is written without a sync for each commit: what a power cut takes
// away is indexed again.
//
//	account(id, next, live)     next is the number of the next document; live counts rows of doc
//	mailbox(id, account, validity, watermark)
//	place(id, mailbox, first, count, data)
//	                            which document a message is, for a run of UIDs (places.go)
//	doc(account, body, prefix, doc)
//	                            the document of a body (with a hash of the message's prefix), so
//	                            that a copy is not read again
//	segment(id, account, lo, hi, size)
//	                            the index of the documents lo to hi-1; segments do not overlap
//	part(id, lists, terms)      one column of a segment; id is segment << 3 | column: the terms
//	                            (column.go) and the first 64 KiB of their lists (posting.go)
//	chunk(id, data)             the next 64 KiB of lists; id is id of part << 20 | number
//
// Segments never change. Each batch makes one, and eight of one tier at the end
// of an account make one of the next, up to 65536 documents. Ids of segments and
// places are never given twice while a process has the file open. Every blob ends
// in a CRC-32C. Documents whose message is gone are harmless; they are dropped,
// with the terms that nobody else has, when they are a third of an account.
//
// While the disk is nearly full (Options.Low) nothing is added to the file: what
// comes then waits, and is read by those who search.
//
// # Concurrency
//
// One goroutine writes; lookups read snapshots of the file, a few at a time, and
// share a cache of vocabularies and places of bounded size. Close returns when
// all have ended.
package search
