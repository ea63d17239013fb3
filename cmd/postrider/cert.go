package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"postrider/internal/directory"
	"postrider/internal/node"
)

// maxCertificateFile bounds what `user cert add` reads, in octets.
const maxCertificateFile = 64 << 10

type certCmd struct {
	Add    certAddCmd    `cmd:"" help:"Let the key of a certificate log an account in (SASL EXTERNAL)."`
	List   certListCmd   `cmd:"" help:"List the certificates of an account, or of all."`
	Remove certRemoveCmd `cmd:"" help:"Log an account in by this certificate no more."`
}

type (
	certAddCmd struct {
		addressArg
		File string `arg:"" help:"The certificate in PEM; - for standard input."`
	}
	certListCmd struct {
		Address string `arg:"" optional:"" help:"Address; none: all accounts."`
		jsonFlag
	}
	certRemoveCmd struct {
		addressArg
		Fingerprint string `arg:"" help:"As user cert list shows it, or its first digits."`
	}
)

func (c *certAddCmd) Run(e *env) error {
	text, err := c.read(e)
	if err != nil {
		return err
	}
	return e.admin(func(a *node.AdminClient) error {
		var added directory.Certificate
		if err := a.Call("CertificateAdd", node.CertificateArgs{Address: c.Address, PEM: string(text)}, &added); err != nil {
			return err
		}
		fmt.Fprintln(e.stdout, added.Fingerprint)
		return nil
	})
}

// read reads the first certificate of the file. A key that is in it, too, stays
// here.
func (c *certAddCmd) read(e *env) ([]byte, error) {
	in := e.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCertificateFile))
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return pem.EncodeToMemory(block), nil
		}
	}
	return nil, errors.New("the file has no certificate in PEM (-----BEGIN CERTIFICATE-----)")
}

func (c *certListCmd) Run(e *env) error {
	return e.admin(func(a *node.AdminClient) error {
		var list []directory.Certificate
		if err := a.Call("CertificateList", node.CertificateArgs{Address: c.Address}, &list); err != nil {
			return err
		}
		return printList(e, c.JSON, list, "ADDRESS\tFINGERPRINT\tUNTIL\tSUBJECT", func(l directory.Certificate) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s", l.Account, l.Fingerprint, l.NotAfter.Format(time.DateOnly), l.Subject)
		})
	})
}

func (c *certRemoveCmd) Run(e *env) error {
	return e.call("CertificateRemove", node.CertificateArgs{Address: c.Address, Fingerprint: c.Fingerprint})
}
