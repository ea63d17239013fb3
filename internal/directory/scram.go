package directory

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"

	"postrider/mailstore"
)

// scramHash is one of the hashes that SCRAM is offered with.
type scramHash struct {
	name     string
	generate scram.HashGeneratorFcn
	size     int // octets
	// of picks the verifier in credentials; one without keys where there is none.
	of func(*credentials) *scramVerifier
}

// scramHashes, the stronger first: RFC 7677, RFC 5802.
var scramHashes = [...]scramHash{
	{"SCRAM-SHA-256", scram.SHA256, sha256.Size, func(c *credentials) *scramVerifier { return &c.SCRAM }},
	{"SCRAM-SHA-1", scram.SHA1, sha1.Size, func(c *credentials) *scramVerifier { return &c.SCRAM1 }},
}

// plus ends the names of the mechanisms with channel binding.
const plus = "-PLUS"

// scramMechanism finds the hash of a mechanism, and whether it binds.
func scramMechanism(mech string) (hash scramHash, binds, ok bool) {
	mech, binds = strings.CutSuffix(mech, plus)
	for _, h := range scramHashes {
		if h.name == mech {
			return h, binds, true
		}
	}
	return scramHash{}, false, false
}

// derive makes the verifier of a password.
func (h scramHash) derive(prepared string, salt []byte, iterations int) (scramVerifier, error) {
	client, err := h.generate.NewClientUnprepped("", prepared, "")
	if err != nil {
		return scramVerifier{}, err
	}
	keys, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	return scramVerifier{Iterations: iterations, Salt: salt, StoredKey: keys.StoredKey, ServerKey: keys.ServerKey}, err
}

// fits tells whether a verifier has what the hash needs.
func (h scramHash) fits(v *scramVerifier) bool {
	return v.Iterations > 0 && len(v.StoredKey) == h.size && len(v.ServerKey) == h.size
}

// bindings are the channel bindings of a connection, the one that RFC 9266
// section 3 makes the default of its TLS version first; none without TLS. Below
// TLS 1.3 there are none without the Extended Master Secret (RFC 7627): both can
// then be the same on two connections, with somebody between them (RFC 9266
// section 4.2). Package tls refuses to export in that case, and where it would
// renegotiate, which our servers never do.
func bindings(state *tls.ConnectionState) []scram.ChannelBinding {
	if state == nil || !state.HandshakeComplete {
		return nil
	}
	exporter, err := scram.NewTLSExporterBinding(state)
	switch {
	case err != nil:
		return nil
	case state.Version >= tls.VersionTLS13 || len(state.TLSUnique) == 0:
		return []scram.ChannelBinding{exporter}
	}
	return []scram.ChannelBinding{scram.NewTLSUniqueBinding(state.TLSUnique), exporter}
}

// bindings are those that p is offered.
func (d *Directory) bindings(p Peer) []scram.ChannelBinding {
	if d.noBinding {
		return nil
	}
	return bindings(p.TLS)
}

// scramState is a SCRAM conversation.
type scramState struct {
	hash         scramHash
	binds        bool // a mechanism with -PLUS
	bindings     []scram.ChannelBinding
	conversation *scram.ServerConversation // nil before the client's first message
	who          who
	firstDomain  string
	account      mailstore.Account // ID 0 for nobody
	keys         bool              // the account has keys for the hash
}

// conversationFor begins a conversation by the first part of the client's first
// message, gs2-cbind-flag (RFC 5802 section 7). nil: the flag does not go with
// the mechanism.
func (s *scramState) conversationFor(server *scram.Server, flag string) *scram.ServerConversation {
	name, asked := strings.CutPrefix(flag, "p=")
	if asked != s.binds {
		return nil // "p" goes with -PLUS, and -PLUS with nothing else
	}
	if !asked {
		// Whoever says "y" was not shown the -PLUS mechanisms that we offer: an
		// attacker took them away, and the conversation fails (RFC 5802 section 6).
		var offered scram.ChannelBinding
		if len(s.bindings) > 0 {
			offered = s.bindings[0]
		}
		return server.NewConversationWithChannelBinding(offered)
	}
	for _, b := range s.bindings {
		if string(b.Type) == name {
			return server.NewConversationWithChannelBindingRequired(b)
		}
	}
	return nil
}

// scramFirst takes client-first-message of RFC 5802 section 7.
func (x *exchange) scramFirst(response []byte) ([]byte, bool, error) {
	if response == nil {
		x.step = x.scramFirst
		return []byte{}, false, nil
	}
	s := x.scram
	var failed error // of the lookup, as it is
	server, err := s.hash.generate.NewServer(func(name string) (scram.StoredCredentials, error) {
		var stored scram.StoredCredentials
		stored, failed = x.scramLookup(s, name)
		return stored, failed
	})
	if err != nil {
		return nil, false, err
	}
	if x.d.nonce != nil {
		server.WithNonceGenerator(x.d.nonce)
	}
	flag, _, _ := strings.Cut(string(response), ",")
	if s.conversation = s.conversationFor(server, flag); s.conversation == nil {
		return nil, false, ErrMalformed
	}
	challenge, err := s.conversation.Step(string(response))
	switch {
	case failed != nil:
		return nil, false, failed
	case challenge == scram.ErrServerDoesSupportChannelBinding:
		x.d.log.Warn("a client was not shown the SCRAM mechanisms with channel binding: somebody may be in between",
			"session", x.peer.Session, "protocol", x.peer.Protocol, "remote", x.peer.Addr.String())
		return nil, false, ErrMalformed
	case err != nil:
		return nil, false, ErrMalformed
	}
	x.step = x.scramFinal
	return []byte(challenge), false, nil
}

// scramLookup finds the verifier of a name, or one for nobody that looks like
// it: the salt is always the same for a name.
func (x *exchange) scramLookup(s *scramState, name string) (stored scram.StoredCredentials, err error) {
	if s.who, s.firstDomain, err = x.d.who(x.ctx, x.peer, name); err != nil {
		return stored, err
	}
	if err := x.d.throttle.wait(x.ctx, s.who); err != nil {
		return stored, err
	}
	if s.account, err = x.d.find(x.ctx, s.who); err != nil {
		return stored, err
	}
	c, err := parseCredentials(s.account.Credentials)
	if err != nil {
		return stored, fmt.Errorf("account %s: %w", s.account.Address, err)
	}
	v := s.hash.of(&c)
	if s.keys = s.account.ID != 0 && s.hash.fits(v); !s.keys {
		nobody, err := parseCredentials(x.d.dummy)
		if err != nil {
			return stored, err
		}
		v = s.hash.of(&nobody)
		v.Salt = x.d.salt(s.hash, s.who, name)
	}
	stored.KeyFactors = scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations}
	stored.StoredKey, stored.ServerKey = v.StoredKey, v.ServerKey
	return stored, nil
}

// salt is that of a name that has no keys for the hash.
func (d *Directory) salt(hash scramHash, w who, name string) []byte {
	if !w.address.IsZero() {
		name = key(w.address)
	}
	h := hmac.New(sha256.New, d.scramKey)
	h.Write([]byte(name))
	if hash.size != sha256.Size { // the first version had SHA-256 alone
		h.Write([]byte("\x00" + hash.name))
	}
	return h.Sum(nil)[:saltSize]
}

// scramFinal takes client-final-message.
func (x *exchange) scramFinal(response []byte) ([]byte, bool, error) {
	s := x.scram
	// One at a time, so that each attempt sees the failures of those before.
	select {
	case x.d.scramTurn <- struct{}{}:
	case <-x.ctx.Done():
		return nil, false, x.ctx.Err()
	}
	defer func() { <-x.d.scramTurn }()
	if delay, err := x.d.throttle.delay(s.who); err != nil || delay > 0 {
		return nil, false, ErrTooManyLogins // others failed since the first message
	}
	challenge, err := s.conversation.Step(string(response))
	authzid := s.conversation.AuthzID()
	own := authzid == "" || loginAddress(authzid, s.firstDomain) == s.who.address
	if err != nil || !s.conversation.Valid() || !own || !s.keys {
		switch {
		case challenge == scram.ErrChannelBindingsDontMatch:
			x.d.log.Warn("a client is bound to another TLS connection than ours: somebody may be in between",
				"session", x.peer.Session, "protocol", x.peer.Protocol, "remote", x.peer.Addr.String())
		case s.account.ID != 0 && !s.keys:
			x.d.log.Info("no keys for "+s.hash.name+" yet: the next login with the password makes them", "account", s.account.Address)
		}
		return nil, false, x.d.reject(x.peer, s.who, s.account)
	}
	x.step = x.scramDone
	return []byte(challenge), false, nil
}

// scramDone takes the client's empty response to server-final-message.
func (x *exchange) scramDone(response []byte) ([]byte, bool, error) {
	if len(response) > 0 {
		return nil, false, ErrMalformed
	}
	return x.finish(x.d.admit(x.peer, x.scram.who, x.scram.account), nil)
}
