// Package queue owns mail that was accepted and is not yet delivered or
// returned. It decides when to try; never where (package route) or how (package
// deliver).
//
// # Acceptance
//
// Accept takes a message for all its recipients in one commit: those that live
// here get it in their INBOX, each account once; the others become rows of the
// queue; reports that RFC 3461 asks for at that moment are part of the same
// commit. When Accept returns nil all of it survives loss of power.
//
// An account that has no room for the message (it filled up since RCPT) gets a
// row of the queue too, and the others their copies: each full account is a
// destination of its own, tried by the retry list but every 15 minutes at least.
// A delivery into it is one commit that takes the row away and puts the message
// into the INBOX. When the time is over, the sender hears 552 5.2.2. This holds
// for reports and for the postmaster's mail as well: a full mailbox refuses them
// at no time, and lets them wait.
//
// # Schedule
//
// A bounded number of recipients is in memory (Options.Active): those that are
// due or under way and, where there is ample room, due within a minute. Fresh mail gets there directly, with
// its content when that is small; the rest is read from the store when its time
// comes and there is room. A domain may hold at most as many places as are free,
// so that the backlog of one, however large, leaves room for the others. Domains
// with work take turns; one domain has at most Options.PerDomain attempts at a
// time, fewer while it says that it is too busy, all together
// Options.Concurrency. The recipients of one message at one
// domain go in one Delivery, up to Options.PerDelivery.
//
// A domain none of whose hosts answers, or that breaks off several attempts in a
// row, is suspended: for the first time of the
// retry list, then longer, up to 15 minutes. Then one message is its probe. What
// falls due for it meanwhile counts as tried, with the last answer as its reason,
// and waits for its own next time; it is never given up on that ground alone,
// unless the domain was really tried after the message had expired. When the
// domain answers again, all that waits because nobody answered is due.
//
// # Outcomes
//
// Every outcome of a recipient is one Update: success removes the row; a
// temporary failure writes the next time; a permanent one removes the row and
// puts the report to the sender into an INBOX or into the queue, all in one
// commit. A report has the null reverse-path, and for a message with the null
// reverse-path none is ever made: its failure is logged and counted, and the
// message dropped, as Postfix does by default. (RFC 3461 section 5.2 would have
// the postmaster told: the counter and the log line are for that.) So reports
// cannot loop.
//
// # States that a crash can leave
//
//	state at the crash                     on disk                       recovery at the next start
//	-------------------------------------  ----------------------------  -----------------------------------------
//	Accept, before its commit              nothing, or the file of a     the sender had no 250 and sends again;
//	                                       large body without a row      the store sweeps the file
//	Accept, after its commit, before 250   all recipients                none needed; the sender may send again,
//	                                                                     the one case of a local duplicate
//	waiting                                row with Next                 found by Due
//	waiting for a full account             the same, Domain is an address  the same; it was not delivered
//	held                                   row with Held                 none needed
//	under way, before the final reply      row as before the attempt     Next has passed: tried at once
//	final reply sent by the peer, its      row as before the attempt     tried at once: the one case in which a
//	outcome not yet committed                                            peer gets a message twice (RFC 1047)
//	failed for good, report composed but   row as before the attempt     tried at once: the peer refuses again,
//	not committed                                                        and the report is made then
//	outcome committed                      row gone or rewritten, with   none needed
//	                                       its report
//	part of a Delivery committed (Partial) rows of the others            those are tried again, alone
//	operator's retry, hold, release or     the messages up to one of     give the command again; each message is
//	remove of several messages             them                          one commit
//	waiting rows being given an earlier    some of them rewritten        the rest keeps its time; what the clock
//	time                                                                 made wait too long is seen at the start
//
// Nothing but the rows is needed to go on: what is in memory is a copy.
//
// # Clocks
//
// Rows hold wall time, since they outlive the process. While it runs, the queue
// has a time of its own (type timeline): the wall clock, but never running back.
// A clock set back by an hour stalls nothing; one set ahead makes everything due
// at once, which does no harm. What was written before a restart and lies
// further ahead than its place in the retry list allows, because the clock was
// set back meanwhile, is corrected in a pass over the waiting rows when Run
// begins. A message is given up only when an attempt failed after its time was
// over, and only if the waits between its attempts, which are measured by the
// monotonic clock, add up to at least half of Options.Expire: so neither a clock
// ten years ahead nor a server that was off for a week makes anything expire
// that was not tried for a while. By the same measure a message is given up
// after three times Options.Expire whatever the wall clock says.
//
// All methods may be called concurrently; Run is called once.
package queue
