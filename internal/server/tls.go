package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// tlsFiles are the certificate, key and client CA of the TLS listeners, and the configuration made of them.
type tlsFiles struct {
	opts    TLSOptions
	current atomic.Pointer[tls.Config]
	stamps  [3]fileStamp // of the files in force, and below of those that could not be used; of the sweeper's goroutine
	refused struct {
		stamps [3]fileStamp
		looks  int
	}
}

type fileStamp struct {
	modified time.Time
	size     int64
}

func loadTLS(opts TLSOptions) (*tlsFiles, error) {
	if opts.CertFile == "" || opts.KeyFile == "" {
		return nil, errors.New("a tls:// listener needs a certificate and a key file")
	}
	f := &tlsFiles{opts: opts}
	f.stamps, _ = f.stat() // an error shows when they are read
	config, err := f.load()
	if err != nil {
		return nil, err
	}
	f.current.Store(config)
	return f, nil
}

// serverConfig hands every new connection the newest files.
func (f *tlsFiles) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current.Load(), nil },
	}
}

func (f *tlsFiles) load() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.opts.CertFile, f.opts.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s and the key %s: %w", f.opts.CertFile, f.opts.KeyFile, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if f.opts.ClientCAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(f.opts.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("read the client CA: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the client CA file %s has no certificate", f.opts.ClientCAFile)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

func (f *tlsFiles) stat() (stamps [3]fileStamp, err error) {
	for i, name := range []string{f.opts.CertFile, f.opts.KeyFile, f.opts.ClientCAFile} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return stamps, err
		}
		stamps[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

// reload reads the files again if one has changed. Files that do not fit together, as while they are being replaced,
// leave the old ones in force until the next look.
func (f *tlsFiles) reload(logger *slog.Logger) {
	stamps, err := f.stat()
	if err == nil && stamps == f.stamps {
		return
	}
	var config *tls.Config
	if err == nil {
		config, err = f.load()
	}
	if err != nil {
		f.refuse(stamps, err, logger)
		return
	}
	f.refused.looks = 0
	f.stamps = stamps
	f.current.Store(config)
	logger.Info("TLS certificate read again", "file", f.opts.CertFile)
}

// refuse logs files that cannot be used once: at the second look that finds them so, because at the first one somebody
// may be between writing the certificate and writing the key.
func (f *tlsFiles) refuse(stamps [3]fileStamp, err error, logger *slog.Logger) {
	if stamps != f.refused.stamps {
		f.refused.stamps, f.refused.looks = stamps, 0
	}
	f.refused.looks++
	if f.refused.looks == 2 {
		logger.Error("the changed TLS files cannot be used; the ones read before stay in force", "error", err)
	}
}
