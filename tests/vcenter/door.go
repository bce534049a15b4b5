package main

import (
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Door is the address at which vCenter is found, or not: while it is shut, connections are refused.
type Door struct {
	handler          http.Handler
	certificate, key string // files, read for every connection: a certificate may be replaced

	mu      sync.Mutex
	address string
	server  *http.Server
}

// Open starts to listen, and returns the address.
func (d *Door) Open() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	plain, err := net.Listen("tcp", d.address)
	if err != nil {
		return "", err
	}
	d.address = plain.Addr().String() // the same one again after being shut
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(d.certificate, d.key)
		return &pair, err
	}}
	server := &http.Server{Handler: d.handler, ErrorLog: log.Default()}
	d.server = server
	go func() { _ = server.Serve(tls.NewListener(plain, config)) }()
	return d.address, nil
}

// Shut cuts all connections and refuses new ones for a while.
func (d *Door) Shut(howLong time.Duration) {
	d.mu.Lock()
	server := d.server
	d.mu.Unlock()
	_ = server.Close()
	time.AfterFunc(howLong, func() {
		for {
			if _, err := d.Open(); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}
