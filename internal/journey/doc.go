// Package journey owns the events that tell what happened to each message, and
// to each session while someone listens.
//
// There is one type of event and one Recorder for a server, handed down like a
// logger. Record never waits, for a disk or for a reader: what does not fit its
// bounds is dropped, counted and said. A nil *Recorder records nothing, so that
// components need no test for one.
//
// Events never hold a secret (Mask* are for those who record lines) and never
// hold text of a message: of content they have its size only.
package journey
