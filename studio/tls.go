package studio

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certCheck is how old the look at the certificate's files may be when a
// connection is opened.
const certCheck = 5 * time.Second

// certificate is a TLS certificate that is read again when its files change.
type certificate struct {
	cert, key string // PEM files
	log       *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	stamp  [2]fileStamp
	looked time.Time
}

type fileStamp struct {
	changed time.Time
	size    int64
}

// loadCertificate reads the files. They must fit together.
func loadCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	stamp, err := c.stat()
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read the TLS certificate: %w", err)
	}
	c.loaded, c.stamp, c.looked = &pair, stamp, time.Now()
	return c, nil
}

func (c *certificate) stat() (stamp [2]fileStamp, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamp, fmt.Errorf("read the TLS certificate: %w", err)
		}
		stamp[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamp, nil
}

// get returns the certificate for a new connection. Files that changed are read;
// while they cannot be, the certificate before stays in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certCheck {
		return c.loaded, nil
	}
	c.looked = time.Now()
	stamp, err := c.stat()
	if err == nil && stamp == c.stamp {
		return c.loaded, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.cert, c.key); err == nil {
			c.loaded, c.stamp = &pair, stamp
			c.log.Info("the TLS certificate was read anew", "file", c.cert)
			return c.loaded, nil
		}
	}
	c.log.Warn("the new TLS certificate cannot be used, the one before stays", "error", err)
	return c.loaded, nil
}

// config is the server's side of TLS.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}
}
