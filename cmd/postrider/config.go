package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"postrider/dns"
	"postrider/internal/directory"
	"postrider/internal/node"
	"postrider/internal/tomlkeys"
	"postrider/lab"
	"postrider/mta"
	"postrider/pop3"
)

// config is what a configuration file says.
type config struct {
	path      string
	node      node.Options
	logLevel  slog.Level
	logFormat string
	level     slog.LevelVar
	tsigKeys  []tsigKey
}

// problem is one thing wrong in a configuration file.
type problem struct {
	line      int
	key, text string
}

// configError lists every problem of a configuration file.
type configError struct {
	path     string
	problems []problem
}

func (e *configError) Error() string {
	var b strings.Builder
	for i, p := range e.problems {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s:%d: ", e.path, p.line)
		if p.key != "" {
			fmt.Fprintf(&b, "%s: ", p.key)
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// loadConfig reads the file and reports all that is wrong with it at once.
func loadConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w (name another with --config FILE)", err)
	}
	return parseConfig(path, text)
}

func parseConfig(path string, text []byte) (*config, error) {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		var at *toml.DecodeError
		line := 1
		if errors.As(err, &at) {
			line, _ = at.Position()
		}
		return nil, &configError{path, []problem{{line, "", strings.TrimPrefix(err.Error(), "toml: ")}}}
	}
	c := &config{path: path, node: node.DefaultOptions(), logFormat: "text"}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	lines := tomlkeys.Lines(text)
	e := &configError{path: path}
	fail := func(key, format string, args ...any) {
		line := lines[key]
		for k := key; line == 0; line = lines[k] {
			i := strings.LastIndexByte(k, '.')
			if i < 0 {
				line = 1
				break
			}
			k = k[:i]
		}
		e.problems = append(e.problems, problem{line, key, fmt.Sprintf(format, args...)})
	}
	keys := c.keys()
	values := map[string]any{}
	flatten("", tree, values)
	c.dnsTables(values, keys)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		set, ok := keys[key]
		if !ok {
			fail(key, "unknown key%s", nearest(key, keys))
			continue
		}
		if err := set(values[key]); err != nil {
			fail(key, "%v", err)
		}
	}
	if c.node.Hostname == "" && !failed(e, "hostname") {
		fail("hostname", "is missing: the name under which other servers know this one, such as \"mail.example.org\"")
	}
	if c.node.Smarthost.Host == "" && c.node.Smarthost.User != "" {
		fail("delivery.user", "is the login at delivery.smarthost, which is not set")
	}
	if (c.node.TLSCert == "") != (c.node.TLSKey == "") {
		fail("tls", "cert and key go together")
	}
	c.checkDNS(fail)
	if key, text := c.node.OAuth.Check(); text != "" {
		fail("auth.oauth."+key, "%s", text)
	}
	if len(e.problems) > 0 {
		slices.SortStableFunc(e.problems, func(a, b problem) int { return a.line - b.line })
		return nil, e
	}
	paths := []*string{&c.node.DataDir, &c.node.TLSCert, &c.node.TLSKey, &c.node.TLSNext, &c.node.OAuth.CAFile, &c.node.RootHints, &c.node.TrustAnchors}
	for i := range c.node.DNS.Files {
		paths = append(paths, &c.node.DNS.Files[i])
	}
	for i := range c.node.DNS.Own.Files {
		paths = append(paths, &c.node.DNS.Own.Files[i])
	}
	for i := range c.node.DNS.Zones {
		paths = append(paths, &c.node.DNS.Zones[i].File)
	}
	for _, p := range paths {
		if *p != "" && *p != "off" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return c, nil
}

func failed(e *configError, key string) bool {
	return slices.ContainsFunc(e.problems, func(p problem) bool { return p.key == key })
}

// setter takes a decoded value and says what it should have been.
type setter func(v any) error

// keys is the one table of what a configuration may say.
func (c *config) keys() map[string]setter {
	n := &c.node
	keys := map[string]setter{
		"hostname": hostname(&n.Hostname),
		"data_dir": text(&n.DataDir, func(s string) error {
			if s == "" {
				return errors.New("must name a folder")
			}
			return nil
		}),
		"server.user":              text(&n.User, nil),
		"tls.cert":                 text(&n.TLSCert, nil),
		"tls.key":                  text(&n.TLSKey, nil),
		"tls.next":                 text(&n.TLSNext, nil),
		"auth.plaintext":           oneOf((*string)(&n.Plaintext), string(directory.PlaintextNever), string(directory.PlaintextLoopback), string(directory.PlaintextAlways)),
		"auth.client_certificates": oneOf(&n.ClientCertificates, "never", "registered", "always"),
		"auth.channel_binding":     boolean(&n.ChannelBinding),
		"auth.oauth.issuer":        text(&n.OAuth.Issuer, nil),
		"auth.oauth.audience":      text(&n.OAuth.Audience, nil),
		"auth.oauth.scope":         list(&n.OAuth.Scopes, func(s string) (string, error) { return s, nil }),
		"auth.oauth.claim":         text(&n.OAuth.Claim, nil),
		"auth.oauth.introspection": text(&n.OAuth.Introspection, nil),
		"auth.oauth.client_id":     text(&n.OAuth.ClientID, nil),
		"auth.oauth.client_secret": text(&n.OAuth.ClientSecret, nil),
		"auth.oauth.ca":            text(&n.OAuth.CAFile, nil),
		"auth.oauth.leeway":        orOff(&n.OAuth.Leeway),
		"smtp.relay_networks":      list(&n.RelayNetworks, parsePrefix),
		"smtp.relay_domains":       list(&n.RelayDomains, mta.NormalizeDomain),
		"smtp.require_auth":        boolean(&n.RequireAuth),
		"smtp.bare_helo":           boolean(&n.BareHelo),
		"smtp.bare_newline":        oneOf(&n.BareNewline, "reject", "normalise"),
		"pop3.login_delay": func(v any) error {
			var d time.Duration
			if err := orOff(&d)(v); err != nil {
				return err
			}
			if d%time.Second != 0 || d > 24*time.Hour {
				return errors.New("must be whole seconds, a day at most")
			}
			n.POP3.LoginDelay = d
			return nil
		},
		"pop3.expire": expiry(&n.POP3),
		"pop3.utf8_headers": func(v any) error {
			var word string
			err := oneOf(&word, "refuse", "send")(v)
			n.POP3.SendUTF8 = word == "send"
			return err
		},
		"imap.literal_minus":        boolean(&n.LiteralMinus),
		"imap.administrators":       list(&n.Administrators, parseAddress),
		"imap.message_limit":        messageLimit(&n.MessageLimit),
		"delivery.remote_port":      integer(&n.RemotePort, 1, 65535),
		"delivery.smarthost":        hostPort(&n.Smarthost.Host),
		"delivery.user":             text(&n.Smarthost.User, nil),
		"delivery.password":         text(&n.Smarthost.Password, nil),
		"delivery.tls":              tlsPolicy(&n.Smarthost.TLS),
		"delivery.private_networks": list(&n.PrivateNetworks, parsePrefix),
		"delivery.retry": func(v any) error {
			if err := list(&n.Retry, parseDuration)(v); err != nil {
				return err
			}
			if len(n.Retry) == 0 {
				return errors.New("needs at least one wait")
			}
			return nil
		},
		"delivery.expire":                 duration(&n.Expire),
		"limits.message_size":             size(&n.Limits.MessageSize),
		"limits.recipients":               integer(&n.Limits.Recipients, 0, math.MaxInt32),
		"limits.connections":              integer(&n.Limits.Connections, 0, math.MaxInt32),
		"limits.connections_per_address":  integer(&n.Limits.ConnectionsPerAddress, 0, math.MaxInt32),
		"limits.messages_per_minute":      integer(&n.Limits.MessagesPerMinute, 0, math.MaxInt32),
		"limits.failed_logins_per_minute": integer(&n.Limits.FailedLoginsPerMinute, 0, math.MaxInt32),
		"limits.account_storage":          size(&n.Limits.AccountStorage),
		"limits.account_messages":         integer(&n.Limits.AccountMessages, 0, math.MaxInt32),
		"log.level": text(nil, func(s string) error {
			if c.logLevel.UnmarshalText([]byte(s)) != nil {
				return errors.New(`must be "debug", "info", "warn" or "error"`)
			}
			return nil
		}),
		"log.format":       oneOf(&c.logFormat, "text", "json"),
		"storage.engine":   oneOf(new(string), "sqlite"),
		"storage.undelete": orOff(&n.Undelete),
		"storage.compress": boolean(&n.Compress),
		"search.index":     boolean(&n.SearchIndex),
	}
	maps.Copy(keys, dnsKeys(n))
	maps.Copy(keys, journeyKeys(n))
	for name, addrs := range n.Listen.ByName() {
		keys["listen."+name] = list(addrs, listenAddress(name))
	}
	for _, name := range []string{"http", "https"} {
		keys["listen."+name] = notBuilt
	}
	return keys
}

// journeyKeys are those of the table [journey].
func journeyKeys(n *node.Options) map[string]setter {
	return map[string]setter{
		"journey.retention": orOff(&n.JourneyRetention),
		"journey.size": func(v any) error {
			if err := size(&n.JourneySize)(v); err != nil {
				return err
			}
			if n.JourneySize < 1<<20 {
				return errors.New("must be at least 1MiB")
			}
			return nil
		},
	}
}

// dnsKeys are those of the table [dns].
func dnsKeys(n *node.Options) map[string]setter {
	return map[string]setter{
		"dns.resolver":         resolver(&n.Resolver),
		"dns.root_hints":       text(&n.RootHints, nil),
		"dns.trust_anchors":    text(&n.TrustAnchors, nil),
		"dns.private_networks": list(&n.NameServerNetworks, parsePrefix),
		"dns.cache":            size(&n.DNSCache),
		"dns.hosts":            text(&n.HostsFile, nil),

		"dns.zones":             list(&n.DNS.Files, nonEmpty),
		"dns.recursion":         list(&n.DNS.Recursion, parsePrefix),
		"dns.rate_limit":        integer(&n.DNS.RateLimit, 0, 1_000_000),
		"dns.minimal_responses": boolean(&n.DNS.Minimal),
		"dns.rotate":            boolean(&n.DNS.Rotate),
		"dns.local_zones":       boolean(&n.DNS.LocalZones),
		"dns.udp_size":          integer(&n.DNS.UDPSize, 512, 4096),
		"dns.own":               list(&n.DNS.Own.Zones, dns.ParseName),
		"dns.own_servers":       list(&n.DNS.Own.Servers, parseNameServer),
		"dns.own_addresses":     list(&n.DNS.Own.Addresses, parseIP),
		"dns.own_records":       list(&n.DNS.Own.Files, nonEmpty),
		"dns.own_sign":          boolean(&n.DNS.Own.Sign),
	}
}

func text(p *string, check func(string) error) setter {
	return func(v any) error {
		s, ok := v.(string)
		if !ok {
			return errors.New("must be a string")
		}
		if strings.ContainsAny(s, "\r\n\x00") {
			return errors.New("must be one line")
		}
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		if p != nil {
			*p = s
		}
		return nil
	}
}

func oneOf(p *string, words ...string) setter {
	return text(p, func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("must be %s", strings.Join(quoteAll(words), " or "))
		}
		return nil
	})
}

func quoteAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return out
}

func boolean(p *bool) setter {
	return func(v any) error {
		b, ok := v.(bool)
		if !ok {
			return errors.New("must be true or false")
		}
		*p = b
		return nil
	}
}

func integer(p *int, low, high int64) setter {
	return func(v any) error {
		i, ok := v.(int64)
		if !ok || i < low || i > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		*p = int(i)
		return nil
	}
}

func parseAddress(s string) (string, error) {
	a, err := mta.ParseAddress(s)
	if err != nil || a.Domain == "" {
		return "", errors.New("must be the address of an account, such as admin@example.org")
	}
	return a.String(), nil
}

// messageLimit takes what MESSAGELIMIT may announce (RFC 9738 section 3).
func messageLimit(p *int) setter {
	return func(v any) error {
		var n int
		if err := integer(&n, 0, math.MaxInt32)(v); err != nil {
			return err
		}
		if n > 0 && n < 1000 {
			return errors.New("must be 0 or at least 1000")
		}
		*p = n
		return nil
	}
}

func list[T any](p *[]T, parse func(string) (T, error)) setter {
	return func(v any) error {
		items, ok := v.([]any)
		if !ok {
			return errors.New("must be a list of strings")
		}
		out := make([]T, 0, len(items))
		for _, item := range items {
			s, ok := item.(string)
			if !ok {
				return errors.New("must be a list of strings")
			}
			t, err := parse(s)
			if err != nil {
				return fmt.Errorf("%q: %w", s, err)
			}
			out = append(out, t)
		}
		*p = out
		return nil
	}
}

// notBuilt takes only a value that means "off": "" or [].
func notBuilt(v any) error {
	list, ok := v.([]any)
	if s, text := v.(string); text && s == "" || ok && len(list) == 0 {
		return nil
	}
	return errors.New("not built yet: leave it out")
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New(`must be a network such as "192.0.2.0/24"`)
	}
	return p.Masked(), nil
}

func hostname(p *string) setter {
	return func(v any) error {
		s, _ := v.(string)
		name, err := mta.NormalizeDomain(s)
		if err != nil || strings.HasPrefix(name, "[") {
			return errors.New(`must be a domain name such as "mail.example.org"`)
		}
		*p = name
		return nil
	}
}

func resolver(p *string) setter {
	return text(p, func(s string) error {
		if _, err := netip.ParseAddrPort(s); err != nil && s != "system" && s != "iterative" {
			return errors.New(`must be "system", "iterative" or a name server's "ADDR:PORT"`)
		}
		return nil
	})
}

func hostPort(p *string) setter {
	return text(p, func(s string) error {
		if s == "" {
			return nil
		}
		return checkHostPort(s)
	})
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.Atoi(port); err != nil || host == "" || perr != nil || n < 0 || n > 65535 {
		return errors.New(`must be "HOST:PORT"`)
	}
	return nil
}

func listenAddress(service string) func(string) (string, error) {
	return func(s string) (string, error) {
		if service == "lmtp" && strings.Contains(s, "/") {
			return s, nil
		}
		if strings.HasPrefix(s, ":") {
			s = "[::]" + s // every address of this machine
		}
		return s, checkHostPort(s)
	}
}

func tlsPolicy(p *mta.TLSPolicy) setter {
	return func(v any) error {
		var word string
		err := oneOf(&word, "required", "implicit", "opportunistic", "never")(v)
		switch word {
		case "required":
			*p = mta.TLSRequired
		case "implicit":
			*p = mta.TLSImplicit
		case "opportunistic":
			*p = mta.TLSOpportunistic
		case "never":
			*p = mta.TLSNever
		}
		return err
	}
}

func duration(p *time.Duration) setter {
	return func(v any) error {
		s, _ := v.(string)
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		*p = d
		return nil
	}
}

// orOff is a duration, or "0".
func orOff(p *time.Duration) setter {
	return func(v any) error {
		if v == "0" {
			*p = 0
			return nil
		}
		if err := duration(p)(v); err != nil {
			return fmt.Errorf(`%w, or "0"`, err)
		}
		return nil
	}
}

// maxExpireDays is the longest retention that pop3.expire names.
const maxExpireDays = 36500

// expiry is "never", or a number of days such as "30d"; "0d" is the end of the
// session.
func expiry(p *pop3.Policy) setter {
	return text(nil, func(s string) error {
		if s == "never" {
			p.Expires = false
			return nil
		}
		digits, ok := strings.CutSuffix(s, "d")
		days, err := strconv.ParseUint(digits, 10, 16)
		if !ok || err != nil || days > maxExpireDays {
			return errors.New(`must be "never" or whole days such as "30d"`)
		}
		p.Expires, p.ExpireDays = true, int(days)
		return nil
	})
}

// parseDuration reads Go's durations and whole days; none is no time.
func parseDuration(s string) (time.Duration, error) {
	d, err := lab.ParseDuration(s)
	if err != nil || d == 0 {
		return 0, errors.New(`must be a time such as "90s", "15m", "4h" or "5d"`)
	}
	return d, nil
}

func size(p *int64) setter {
	return func(v any) error {
		if i, ok := v.(int64); ok && i >= 0 {
			*p = i
			return nil
		}
		s, _ := v.(string)
		n, err := parseSize(s)
		if err == nil {
			*p = n
		}
		return err
	}
}

// units are those of sizes; the last one that fits is how a size is shown.
var units = [...]struct {
	name   string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

// parseSize reads a number of octets, with a unit or without.
func parseSize(s string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.factor {
			break
		}
		return n * u.factor, nil
	}
	return 0, errors.New(`must be a size such as "50MiB", "100KiB" or 0`)
}

func flatten(prefix string, tree map[string]any, out map[string]any) {
	for k, v := range tree {
		if sub, ok := v.(map[string]any); ok {
			flatten(prefix+k+".", sub, out)
			continue
		}
		if list, ok := v.([]any); ok && len(list) > 0 && slices.IndexFunc(list, notTable) < 0 {
			for i, sub := range list {
				flatten(fmt.Sprintf("%s%s[%d].", prefix, k, i), sub.(map[string]any), out)
			}
			continue
		}
		out[prefix+k] = v
	}
}

func notTable(v any) bool {
	_, ok := v.(map[string]any)
	return !ok
}

// nearest suggests the key that was likely meant.
func nearest(key string, keys map[string]setter) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if k[strings.LastIndexByte(k, '.')+1:] == last {
			return fmt.Sprintf(" (did you mean %s?)", k)
		}
	}
	return ""
}
