// A vCenter for tests: govmomi's simulator for the inventory, sessions and SOAP, and VMs of our own with snapshots
// that take time, change tracking and everything that goes wrong in the field. The tests own the site (a JSON file)
// and the disks (asked through a hook). It ends when its standard input does.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	site := flag.String("site", "", "the site file")
	hook := flag.String("hook", "", "URL that is told of snapshots and asked for changed extents")
	listen := flag.String("listen", "127.0.0.2:0", "address of vCenter")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	journal := flag.String("journal", os.DevNull, "file for a JSON line per call")
	flag.Parse()

	book, err := NewJournal(*journal)
	check(err)
	rules := new(Rules)
	inventory, err := NewInventory(&SiteFile{path: *site}, &Hook{url: *hook, book: book}, rules, book)
	check(err)
	service := inventory.service
	service.Listen = &url.URL{User: simulator.DefaultLogin} // any name and password: the front is stricter
	service.RegisterSDK(simulator.Map)
	front := &Front{inv: inventory, rules: rules, book: book, service: service.ServeMux, sessions: make(map[string]string)}
	door := &Door{handler: front, certificate: *certificate, key: *key, address: *listen}
	address, err := door.Open()
	check(err)
	simulator.Map.SessionManager().ServiceHostName = address

	control := &Control{inv: inventory, rules: rules, front: front, door: door}
	local, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { check(http.Serve(local, control.Handler())) }()

	check(json.NewEncoder(os.Stdout).Encode(map[string]string{
		"address": address, "url": "https://" + address + "/sdk", "control": "http://" + local.Addr().String() + "/control",
	}))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
