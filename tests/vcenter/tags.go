package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"sort"
	"strings"
)

// Tags serve the part of vCenter's REST API (/api, 7.0 U2 and later) that finds VMs by tag. A VM's tags are in the
// site file as "category/name"; their IDs are made of that.
type Tags struct {
	front *Front
}

type object = map[string]string

func tagID(tag string) string {
	return "urn:vmomi:InventoryServiceTag:" + hex.EncodeToString([]byte(tag)) + ":GLOBAL"
}
func categoryID(category string) string {
	return "urn:vmomi:InventoryServiceCategory:" + hex.EncodeToString([]byte(category)) + ":GLOBAL"
}

// ServeHTTP answers one request, with a journal entry.
func (t *Tags) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry := Entry{Kind: "rest", Method: r.Method + " " + r.URL.RequestURI()}
	defer func() { t.front.book.Write(entry) }()
	t.front.inv.Refresh()
	if r.URL.Path == "/api/session" && r.Method == http.MethodPost {
		t.login(w, r, &entry)
		return
	}
	session := r.Header.Get("vmware-api-session-id")
	t.front.mu.Lock()
	user, known := t.front.sessions[session]
	if known && r.URL.Path == "/api/session" && r.Method == http.MethodDelete {
		delete(t.front.sessions, session)
	}
	t.front.mu.Unlock()
	entry.User = user
	if !known {
		entry.Fault = refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED")
		return
	}
	if r.URL.Path == "/api/session" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer := t.answer(r)
	if answer == nil {
		entry.Fault = refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (t *Tags) login(w http.ResponseWriter, r *http.Request, entry *Entry) {
	user, password, _ := r.BasicAuth()
	entry.User = user
	if password == "" || t.front.inv.Site().Users[user] != password {
		entry.Fault = refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED")
		return
	}
	token := make([]byte, 16)
	_, _ = rand.Read(token)
	session := hex.EncodeToString(token)
	t.front.mu.Lock()
	t.front.sessions[session] = user
	t.front.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(session)
}

// answer returns what a request asks for, nil where that is not there.
func (t *Tags) answer(r *http.Request) interface{} {
	attached := make(map[string][]object) // "category/name" -> VMs
	categories := make(map[string]bool)
	for _, vm := range t.front.inv.Site().VMs {
		for _, tag := range vm.Tags {
			attached[tag] = append(attached[tag], object{"type": "VirtualMachine", "id": vm.Moref})
			categories[strings.SplitN(tag, "/", 2)[0]] = true
		}
	}
	kind, id := splitLast(strings.TrimPrefix(r.URL.Path, "/api/cis/tagging/"))
	switch {
	case kind == "" && id == "category":
		ids := []string{}
		for category := range categories {
			ids = append(ids, categoryID(category))
		}
		return sorted(ids)
	case kind == "" && id == "tag":
		ids := []string{}
		for tag := range attached {
			ids = append(ids, tagID(tag))
		}
		return sorted(ids)
	case kind == "category":
		for category := range categories {
			if categoryID(category) == id {
				return object{"id": id, "name": category, "description": "", "cardinality": "MULTIPLE"}
			}
		}
	case kind == "tag":
		for tag := range attached {
			if parts := strings.SplitN(tag, "/", 2); tagID(tag) == id {
				return object{"id": id, "name": parts[1], "description": "", "category_id": categoryID(parts[0])}
			}
		}
	case kind == "tag-association" && r.URL.Query().Get("action") == "list-attached-objects":
		for tag, objects := range attached {
			if tagID(tag) == id {
				return objects
			}
		}
	case kind == "" && id == "tag-association" && r.URL.Query().Get("action") == "list-attached-objects-on-tags":
		var asked struct {
			IDs []string `json:"tag_ids"`
		}
		_ = json.NewDecoder(r.Body).Decode(&asked)
		list := []map[string]interface{}{}
		for tag, objects := range attached {
			if containsString(asked.IDs, tagID(tag)) {
				list = append(list, map[string]interface{}{"tag_id": tagID(tag), "object_ids": objects})
			}
		}
		return list
	}
	return nil
}

func splitLast(path string) (before, last string) {
	if slash := strings.LastIndex(path, "/"); slash >= 0 {
		return path[:slash], path[slash+1:]
	}
	return "", path
}

func sorted(list []string) []string {
	sort.Strings(list)
	return list
}

func refuse(w http.ResponseWriter, status int, kind string) string {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]interface{}{"error_type": kind, "messages": []string{}})
	return kind
}
