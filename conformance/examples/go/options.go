package levada

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"example.org/levada/internal/wire"
)

// Version is the version of this client.
const Version = "0.1.0"

// DefaultPort is where a server listens unless told otherwise.
const DefaultPort = "7420"

// Options tell how to connect. Begin with DefaultOptions: a zero duration is refused, not replaced.
type Options struct {
	// Server is host, host:port, levada://host:port, or levada+tls://host:port for TLS.
	Server string `option:"server"`
	// Exactly one way to prove who the client is: User with Password, Token, TokenFile, or Anonymous for servers that want none.
	User     string `option:"user"`
	Password string `option:"password"`
	Token    string `option:"token"`
	// TokenFile holds a token. It is read at every connection, so that it may be replaced.
	TokenFile string `option:"token_file"`
	Anonymous bool   `option:"anonymous"`
	// TLSCAFile holds authorities to trust, in PEM, instead of the system's.
	TLSCAFile string `option:"tls_ca_file"`
	// TLSServerName is the name to verify where it is not the host of Server.
	TLSServerName string `option:"tls_server_name"`
	// TLSDangerouslyAcceptAnyCertificate lets whoever is on the path read and change everything.
	TLSDangerouslyAcceptAnyCertificate bool `option:"tls_dangerously_accept_any_certificate"`
	// ConnectTimeout is for one attempt, authentication included.
	ConnectTimeout time.Duration `option:"connect_timeout_ms"`
	// RequestTimeout is for a request with its retries; a connection that leaves one unanswered longer is given up.
	RequestTimeout time.Duration `option:"request_timeout_ms"`
	// BackoffFloor and BackoffCeiling are the first and the longest wait before another attempt, before jitter.
	BackoffFloor   time.Duration `option:"backoff_floor_ms"`
	BackoffCeiling time.Duration `option:"backoff_ceiling_ms"`
	// ClientName is what the client calls itself to the server.
	ClientName string `option:"client_name"`

	host string // with its port
	tls  *tls.Config
}

// DefaultOptions has a server on this machine and every time limit set.
func DefaultOptions() *Options {
	return &Options{
		Server: "127.0.0.1:" + DefaultPort, ConnectTimeout: 10 * time.Second, RequestTimeout: 30 * time.Second,
		BackoffFloor: 50 * time.Millisecond, BackoffCeiling: 5 * time.Second, ClientName: "levada-go-example",
	}
}

func (o *Options) address() string { return o.host }

// check completes a copy of the options or says which one is wrong.
func (o *Options) check() (*Options, error) {
	c := *o
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"connect_timeout_ms", c.ConnectTimeout}, {"request_timeout_ms", c.RequestTimeout},
		{"backoff_floor_ms", c.BackoffFloor}, {"backoff_ceiling_ms", c.BackoffCeiling},
	} {
		if limit.value < time.Millisecond {
			return nil, usage(limit.name, "%s must be at least 1", limit.name)
		}
	}
	if c.BackoffCeiling < c.BackoffFloor {
		return nil, usage("backoff_ceiling_ms", "the longest back-off is shorter than the first")
	}
	ways := 0
	for _, given := range []bool{c.User != "", c.Token != "", c.TokenFile != "", c.Anonymous} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return nil, usage("token", "more than one kind of credentials is given")
	case c.User == "" && c.Password != "":
		return nil, usage("user", "a password without a user")
	case c.User != "" && c.Password == "":
		return nil, usage("password", "a user without a password")
	}
	return &c, c.parseServer()
}

func (o *Options) parseServer() error {
	host, secure := o.Server, false
	if scheme, rest, has := strings.Cut(o.Server, "://"); has {
		switch scheme {
		case "levada":
		case "levada+tls":
			secure = true
		default:
			return usage("server", "%q does not begin with levada:// or levada+tls://", o.Server)
		}
		host = strings.TrimSuffix(rest, "/")
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil { // no port, or brackets that do not fit
		name, port, err = net.SplitHostPort(net.JoinHostPort(strings.Trim(host, "[]"), DefaultPort))
	}
	if number, failed := strconv.ParseUint(port, 10, 16); failed != nil || number == 0 {
		return usage("server", "%q has no port from 1 to 65535", o.Server)
	}
	if err != nil || name == "" || strings.ContainsAny(name, "/@ ") {
		return usage("server", "%q is no address of a server", o.Server)
	}
	o.host = net.JoinHostPort(name, port)
	if !secure {
		if o.TLSCAFile != "" || o.TLSServerName != "" || o.TLSDangerouslyAcceptAnyCertificate {
			return usage("server", "options of TLS are given and the server's address does not begin with levada+tls://")
		}
		return nil
	}
	o.tls = &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.TLSDangerouslyAcceptAnyCertificate}
	if o.TLSServerName != "" {
		o.tls.ServerName = o.TLSServerName
	}
	if o.TLSCAFile != "" {
		pem, err := os.ReadFile(o.TLSCAFile)
		if err != nil {
			return usage("tls_ca_file", "the authorities cannot be read: %v", err)
		}
		o.tls.RootCAs = x509.NewCertPool()
		if !o.tls.RootCAs.AppendCertsFromPEM(pem) {
			return usage("tls_ca_file", "%s holds no certificate in PEM", o.TLSCAFile)
		}
	}
	return nil
}

const maxTokenFileBytes = 4096

// credentials makes the Authenticate of these options.
func (o *Options) credentials() (*wire.Authenticate, error) {
	switch {
	case o.User != "":
		return &wire.Authenticate{Method: wire.AuthMethodPassword, User: o.User, Secret: []byte(o.Password)}, nil
	case o.Token != "":
		return &wire.Authenticate{Method: wire.AuthMethodToken, Secret: []byte(o.Token)}, nil
	case o.TokenFile != "":
		text, err := os.ReadFile(o.TokenFile)
		if err == nil && len(text) > maxTokenFileBytes {
			err = fmt.Errorf("%d bytes are no token", len(text))
		}
		token := strings.TrimSpace(string(text))
		if err == nil && token == "" {
			err = fmt.Errorf("it is empty")
		}
		if err != nil {
			return nil, fail(CodeCredentialsUnreadable, err, fmt.Sprintf("the token file cannot be read: %v", err), "path", o.TokenFile)
		}
		return &wire.Authenticate{Method: wire.AuthMethodToken, Secret: []byte(token)}, nil
	}
	return nil, fail(CodeUnauthenticated, nil, "the server wants credentials and none are given")
}
