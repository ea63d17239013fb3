package deliver

import (
	"encoding/base64"
	"errors"
	"slices"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"postrider/mta"
)

// maxSASLSteps bounds the challenges of one login.
const maxSASLSteps = 8

// login authenticates to a smarthost (RFC 4954). A login that fails is an
// error of our configuration, or of the smarthost's, that somebody will mend: no
// mail is returned for it.
func (s *session) login() *failure {
	if s.tls == "" && !s.local() {
		return &failure{reply: mta.Errorf(451, "4.7.11", "%s offers no TLS, and its password is not sent without", s.key)}
	}
	mech, client := s.mechanism()
	if client == nil {
		return &failure{reply: mta.Errorf(451, "4.7.0", "%s offers none of the login methods SCRAM-SHA-256, PLAIN and LOGIN", s.key)}
	}
	_, initial, err := client.Start()
	if err != nil {
		return &failure{reply: mta.Errorf(451, "4.7.8", "The login to %s cannot be made: %s", s.key, err)}
	}
	words := []string{"AUTH ", mech}
	if initial != nil {
		words = append(words, " ", encodeSASL(initial))
	}
	rep, err := s.command(s.c.o.Timeouts.Command, nil, words...)
	for step := 0; err == nil && rep.Code == 334; step++ {
		var answer []byte
		challenge, bad := base64.StdEncoding.DecodeString(rep.Text)
		if bad == nil {
			answer, bad = client.Next(challenge)
		}
		switch {
		case step == maxSASLSteps:
			return s.unexpected(rep, "AUTH")
		case bad != nil: // RFC 4954 section 4: a lone "*" cancels
			rep, err = s.command(s.c.o.Timeouts.Command, nil, "*")
			if err == nil && rep.Code/100 == 2 {
				return s.unexpected(rep, "AUTH")
			}
		default:
			rep, err = s.command(s.c.o.Timeouts.Command, nil, base64.StdEncoding.EncodeToString(answer))
		}
	}
	switch {
	case err != nil:
		return s.lost("the reply to AUTH", err)
	case rep.Code == 235:
		if sc, ok := client.(*scramClient); ok && !sc.conv.Valid() {
			return &failure{reply: mta.Errorf(451, "4.7.8", "%s did not prove that it knows the password", s.key)}
		}
		return nil
	}
	return &failure{reply: mta.Errorf(451, "4.7.8", "%s refused the login as %s: %s", s.key, s.key.login, rep)}
}

// mechanism chooses the best that the peer offers.
func (s *session) mechanism() (string, sasl.Client) {
	offers := func(m string) bool { return slices.Contains(s.caps.auth, m) }
	switch {
	case offers("SCRAM-SHA-256"):
		c, err := scram.SHA256.NewClient(s.key.login, s.key.password, "")
		if err == nil {
			return "SCRAM-SHA-256", &scramClient{conv: c.NewConversation()}
		}
		fallthrough
	case offers(sasl.Plain):
		return sasl.Plain, sasl.NewPlainClient("", s.key.login, s.key.password)
	case offers(sasl.Login):
		return sasl.Login, &loginClient{words: []string{s.key.login, s.key.password}}
	}
	return "", nil
}

// encodeSASL writes an initial response; "=" is an empty one.
func encodeSASL(b []byte) string {
	if len(b) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(b)
}

// scramClient is xdg-go's conversation as a sasl.Client.
type scramClient struct{ conv *scram.ClientConversation }

func (c *scramClient) Start() (string, []byte, error) {
	first, err := c.conv.Step("")
	return "SCRAM-SHA-256", []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	answer, err := c.conv.Step(string(challenge))
	return []byte(answer), err
}

// loginClient answers the two questions of LOGIN in order; go-sasl's own wants
// them in certain words, which servers do not agree on.
type loginClient struct{ words []string }

func (c *loginClient) Start() (string, []byte, error) { return sasl.Login, nil, nil }

func (c *loginClient) Next([]byte) ([]byte, error) {
	if len(c.words) == 0 {
		return nil, errors.New("one question too many")
	}
	w := c.words[0]
	c.words = c.words[1:]
	return []byte(w), nil
}
