// Package page shows a running lab in a web browser: the map of hosts, the
// sequence diagram of what they say to each other, and what a person can do to
// them.
//
// It owns the HTTP server, the files that the browser gets (all in static,
// none from elsewhere), the translation of journey events into steps of the
// diagram, the telnet console, and the export of a run. It never does anything
// to a host by itself: what a person asks for goes to the Lab.
//
// # Steps
//
// A step is an arrow of the diagram, or a note at one host. Each line that is
// spoken, and each question to a name server, is recorded by both hosts; it becomes
// one step (type questions says which end's). A letter has an id at each server that
// takes it; steps say which are one (type letters). Steps are numbered from
// 1 and the last maxSteps are kept; a browser that was away asks for those after
// the last that it has seen (Last-Event-ID), and is told when some are gone.
//
// # Strangers
//
// The page is for loopback, or for a class on a local network. It takes part
// in no login. Every request passes Guard: a Host that is an address or
// localhost (DNS rebinding needs a name), no requests of other sites' pages,
// bounded bodies, and a content security policy under which nothing inline and
// nothing from outside runs. What letters and peers say reaches the document
// as text nodes only. Streams, consoles and what a console keeps are bounded.
//
// A Server may be used concurrently. Nothing survives its end.
package page
