package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postrider/imap"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mailstore/search"
	"postrider/mta/deliver"
	"postrider/mta/queue"
	"postrider/mta/smtpd"
	"postrider/pop3"
)

const (
	metricsTimeout     = 10 * time.Second // for one request
	maxMetricsRequests = 8                // at a time
)

// metrics holds the figures of one node and serves them.
type metrics struct {
	registry *prometheus.Registry
	n        *Node
	smtpd    smtpd.Metrics // of all SMTP servers together
	mu       sync.Mutex
	servers  []*http.Server
	serving  sync.WaitGroup
}

func newMetrics(n *Node) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), n: n}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("queue_recipients", "Recipients that wait for delivery to other servers, or for room in a mailbox.", m.queueLength)
	m.gauge("queue_attempts", "Attempts to deliver that are under way.",
		func() float64 { return float64(n.queue.Stats().Attempts) })
	m.gauge("queue_suspended_domains", "Domains none of whose servers answered when they were tried last.",
		func() float64 { return float64(n.queue.Stats().Suspended) })
	m.gauge("connections", "Connections that are open, metrics and control excluded.",
		func() float64 { return float64(n.gate.Connections()) })
	m.gauge("store_waiting", "Changes that wait for the writer of the store.",
		func() float64 { return float64(n.Store.Waiting()) })
	m.gauge("accounts_nearly_full", "Accounts that filled up to 90 % of their quota since the start and are still so.",
		func() float64 { return float64(n.Store.NearlyFull()) })
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "postrider_panics_total", Help: "Sessions and commands that ended in a fault of the program.",
	}, func() float64 { return float64(n.server.Panics() + n.panics.Load()) }))
	m.smtpd = m.smtp()
	return m
}

// The counters of each package, under its name.

func (m *metrics) connections() wire.Metrics {
	return wire.Metrics{
		Accepted: m.counter("connections_accepted_total", "Connections that were given to a protocol."),
		Refused:  m.counter("connections_refused_total", "Connections refused at once, for a limit or at the end."),
		Evicted:  m.counter("connections_evicted_total", "Connections without login that made room for new ones."),
	}
}

func (m *metrics) smtp() smtpd.Metrics {
	return smtpd.Metrics{
		Sessions:         m.counter("smtp_sessions_total", "Connections to the SMTP, submission and LMTP listeners."),
		Accepted:         m.counter("smtp_accepted_total", "Messages accepted."),
		RefusedMessages:  m.counter("smtp_refused_messages_total", "Messages refused after their content."),
		RefusedRecipient: m.counter("smtp_refused_recipients_total", "Recipients refused."),
		Logins:           m.counter("smtp_logins_total", "Logins for submission."),
		FailedLogins:     m.counter("smtp_failed_logins_total", "Logins for submission that failed."),
		TimedOut:         m.counter("smtp_timeouts_total", "SMTP sessions that ended for a timeout."),
	}
}

func (m *metrics) queue() queue.Metrics {
	return queue.Metrics{
		Messages:  m.counter("queue_messages_total", "Messages accepted, those that the server itself makes excluded."),
		Local:     m.counter("queue_local_total", "Messages put into mailboxes."),
		Queued:    m.counter("queue_queued_total", "Recipients put into the queue."),
		Delivered: m.counter("queue_delivered_total", "Recipients taken by other servers."),
		Deferred:  m.counter("queue_deferred_total", "Attempts that failed for now, by recipient."),
		Failed:    m.counter("queue_failed_total", "Recipients refused for good or given up."),
		Dropped:   m.counter("queue_dropped_total", "Failures that nobody could be told about."),
		Reports:   m.counter("queue_reports_total", "Delivery status notifications made."),
	}
}

func (m *metrics) delivery() deliver.Metrics {
	return deliver.Metrics{
		Connections: m.counter("delivery_connections_total", "Connections opened to other servers."),
		Reused:      m.counter("delivery_reused_total", "Transactions on a connection that had one before."),
		Messages:    m.counter("delivery_messages_total", "Transactions that other servers accepted."),
		Recipients:  m.counter("delivery_recipients_total", "Recipients that other servers accepted."),
	}
}

func (m *metrics) pop3() pop3.Metrics {
	return pop3.Metrics{
		Logins:    m.counter("pop3_logins_total", "POP3 sessions that opened a maildrop."),
		Retrieved: m.counter("pop3_retrieved_total", "Messages sent whole over POP3."),
		Deleted:   m.counter("pop3_deleted_total", "Messages deleted by QUIT."),
	}
}

func (m *metrics) imap() imap.Metrics {
	return imap.Metrics{
		Logins:   m.counter("imap_logins_total", "IMAP logins."),
		Appended: m.counter("imap_appended_total", "Messages stored by APPEND."),
		Fetched:  m.counter("imap_fetched_total", "FETCH responses."),
	}
}

func (m *metrics) search() search.Metrics {
	return search.Metrics{
		Indexed:  m.counter("search_indexed_total", "Messages read for the search index."),
		Rebuilds: m.counter("search_rebuilds_total", "Times that the search index was of no use and was made anew."),
	}
}

func (m *metrics) store() mailstore.Metrics {
	seconds := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "postrider_store_commit_seconds", Help: "Time from the first change of a commit until all were on disk.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16), // to 16 seconds
	})
	m.registry.MustRegister(seconds)
	return mailstore.Metrics{
		Updates:  m.counter("store_updates_total", "Changes that are on disk."),
		Commits:  m.counter("store_commits_total", "Commits, each of one change or more."),
		Failures: m.counter("store_failed_commits_total", "Commits that failed."),
		Damaged:  m.counter("store_damaged_total", "Operations that met bytes or rows that are not what was stored."),
		Refused:  m.counter("store_overquota_total", "Additions that were refused since an account had no room for them."),
		Seconds:  seconds,
	}
}

func (m *metrics) queueLength() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
	defer cancel()
	length := -1
	err := m.n.Store.View(ctx, func(v *mailstore.View) (err error) {
		length, err = v.QueueLength()
		return err
	})
	if err != nil {
		return -1
	}
	return float64(length)
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_" + name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "postrider_" + name, Help: help}, value))
}

// serve answers /metrics and /healthz on l.
func (m *metrics) serve(l net.Listener) {
	s := &http.Server{Handler: m.handler(), ReadTimeout: metricsTimeout, WriteTimeout: 2 * metricsTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(m.n.log.Handler(), slog.LevelDebug)}
	m.mu.Lock()
	m.servers = append(m.servers, s)
	m.mu.Unlock()
	m.serving.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			m.n.log.Error("the metrics listener failed", "err", err)
		}
	})
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Timeout: metricsTimeout, MaxRequestsInFlight: maxMetricsRequests}))
	mux.HandleFunc("GET /healthz", m.health)
	return mux
}

// healthSetting is what a health check commits: when it was made.
const healthSetting = "health"

// health is 200 while the store can commit, which it tries.
func (m *metrics) health(w http.ResponseWriter, r *http.Request) {
	select {
	case <-m.n.Store.Failed():
		http.Error(w, "storage failed", http.StatusServiceUnavailable)
		return
	default:
	}
	ctx, cancel := context.WithTimeout(r.Context(), metricsTimeout)
	defer cancel()
	now := []byte(m.n.options.Clock.Now().UTC().Format(time.RFC3339))
	if err := m.n.Store.Update(ctx, func(tx *mailstore.Tx) error { return tx.PutSetting(healthSetting, now) }); err != nil {
		http.Error(w, "the store cannot commit", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// close ends the servers. A request that is still being answered meets a store
// that says that it is closed.
func (m *metrics) close() {
	m.mu.Lock()
	servers := m.servers
	m.servers = nil
	m.mu.Unlock()
	for _, s := range servers {
		s.Close()
	}
	m.serving.Wait()
}
