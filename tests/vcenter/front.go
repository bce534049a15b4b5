package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const sessionCookie = soap.SessionCookieName

// Front is where calls arrive: it keeps sessions, checks privileges, applies rules and writes the journal, then has
// the simulator do the call.
type Front struct {
	inv     *Inventory
	rules   *Rules
	book    *Journal
	service http.Handler

	mu       sync.Mutex
	sessions map[string]string // cookie -> user
	status   int               // answer everything with this
}

// withoutSession are the methods that need no login.
var withoutSession = map[string]bool{"RetrieveServiceContent": true, "Login": true}

var (
	thisService      = regexp.MustCompile(`(<_this[^>]*>)ServiceInstance(</)`)
	thisEventManager = regexp.MustCompile(`(<_this[^>]*>)EventManager(</)`)
	faultName        = regexp.MustCompile(`<(\w+)Fault xmlns`)
)

// ServeHTTP answers one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	status := f.status
	f.mu.Unlock()
	if status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/vimServiceVersions.xml") {
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprint(w, xml.Header, `<namespaces version="1.0"><namespace><name>urn:vim25</name><version>7.0.3.0</version>`,
			`<priorVersions><version>6.7.3</version><version>6.7</version><version>6.5</version></priorVersions>`,
			`</namespace></namespaces>`)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		(&Tags{front: f}).ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	method, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		log.Printf("not understood: %s", err)
		f.pass(w, r, body)
		return
	}
	f.inv.Refresh()
	begun := time.Now()
	entry := Entry{Kind: "call", Method: method.Name, Object: method.This.Value, Args: arguments(method.Body)}
	answer := f.call(r, method, body, &entry)
	entry.Took = time.Since(begun).Seconds()
	f.book.Write(entry)
	if answer == nil { // as if the wire had been cut
		if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = connection.Close()
		}
		return
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes())
}

func (f *Front) call(r *http.Request, method *simulator.Method, body []byte, entry *Entry) *reply {
	user, known := f.session(r)
	entry.User = user
	if !known {
		r.Header.Del("Cookie")
		ofService := method.This.Type == "ServiceInstance"
		if !withoutSession[method.Name] && !ofService {
			return f.fault(entry, "The session is not authenticated.", &types.NotAuthenticated{
				NoPermission: types.NoPermission{Object: method.This, PrivilegeId: "System.View"},
			})
		}
	}
	machine := ""
	if m := f.inv.MachineOf(method.This); m != nil {
		machine = m.Self.Value
	}
	rule := f.rules.Take(Occasion{Method: method.Name, Stage: "call", VM: machine, Args: entry.Args})
	if rule != nil {
		time.Sleep(rule.delay())
		if rule.HTTP != 0 {
			entry.Fault = fmt.Sprintf("HTTP %d", rule.HTTP)
			return &reply{status: rule.HTTP}
		}
		if rule.Drop == "before" {
			entry.Fault = "dropped"
			return nil
		}
		if rule.Fault != nil && !rule.Fault.After {
			return f.fault(entry, rule.Fault.Message, rule.Fault.Build(method.This))
		}
	}
	if login, ok := method.Body.(*types.Login); ok {
		entry.User = login.UserName
		if users := f.inv.Site().Users; len(users) > 0 && (login.Password == "" || users[login.UserName] != login.Password) {
			return f.fault(entry, "Cannot complete login due to an incorrect user name or password.", &types.InvalidLogin{})
		}
	}
	if privilege := privilegeOf[method.Name]; privilege != "" && f.inv.Missing(privilege) {
		return f.fault(entry, "Permission to perform this operation was denied.", &types.NoPermission{
			Object: method.This, PrivilegeId: privilege,
		})
	}
	switch method.Name {
	case "QueryEvents", "CreateCollectorForEvents":
		body = thisEventManager.ReplaceAll(body, []byte("${1}"+historyRef.Value+"${2}"))
	case "CurrentTime":
		body = thisService.ReplaceAll(body, []byte("${1}"+clockRef.Value+"${2}"))
	}
	answer := f.do(r, body)
	if answer.status != http.StatusOK {
		if name := faultName.FindSubmatch(answer.body.Bytes()); name != nil {
			entry.Fault = string(name[1])
		}
	}
	f.keepSession(method, answer, entry.User, r)
	if _, ok := method.Body.(*types.Login); ok && answer.status == http.StatusOK {
		f.inv.history.Note(EventSpec{Type: "UserLoginSessionEvent", User: entry.User}, nil)
	}
	if rule != nil && rule.Drop == "after" {
		entry.Fault = "dropped after"
		return nil
	}
	if rule != nil && rule.Fault != nil {
		return f.fault(entry, rule.Fault.Message, rule.Fault.Build(method.This))
	}
	return answer
}

// do has the simulator do the call. A panic of it becomes a fault.
func (f *Front) do(r *http.Request, body []byte) (answer *reply) {
	answer = &reply{status: http.StatusOK, header: make(http.Header)}
	defer func() {
		if reason := recover(); reason != nil {
			log.Printf("panic: %v\n%s", reason, debug.Stack())
			answer = encodeFault(fmt.Sprint("panic: ", reason), &types.SystemError{Reason: fmt.Sprint(reason)})
		}
	}()
	f.pass(answer, r, body)
	return answer
}

func (f *Front) pass(w http.ResponseWriter, r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	f.service.ServeHTTP(w, r)
}

func (f *Front) session(r *http.Request) (string, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	user, known := f.sessions[strings.Trim(cookie.Value, `"`)]
	return user, known
}

func (f *Front) keepSession(method *simulator.Method, answer *reply, user string, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cookie, err := r.Cookie(sessionCookie); err == nil && method.Name == "Logout" {
		delete(f.sessions, strings.Trim(cookie.Value, `"`))
	}
	for _, cookie := range (&http.Response{Header: answer.header}).Cookies() {
		if cookie.Name == sessionCookie {
			f.sessions[cookie.Value] = user
		}
	}
}

// Expire ends all sessions and returns how many there were.
func (f *Front) Expire() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := len(f.sessions)
	f.sessions = make(map[string]string)
	return count
}

// Answer has every request answered with a status, 0 ends that.
func (f *Front) Answer(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

func (f *Front) fault(entry *Entry, message string, fault types.BaseMethodFault) *reply {
	entry.Fault = reflect.TypeOf(fault).Elem().Name()
	if message == "" {
		message = entry.Fault
	}
	return encodeFault(message, fault)
}

// reply is an answer on its way.
type reply struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *reply) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}
func (r *reply) WriteHeader(status int)         { r.status = status }
func (r *reply) Write(data []byte) (int, error) { return r.body.Write(data) }
