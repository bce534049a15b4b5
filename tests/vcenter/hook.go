package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// Hook is how the simulator asks the tests, which own the disks and the truth about what changed on them. It waits
// for the answer: a snapshot is not there before the tests have frozen their disks.
type Hook struct {
	url  string
	book *Journal
}

// Told is one thing told.
type Told struct {
	Event          string `json:"event"`
	VM             string `json:"vm"`
	Snapshot       string `json:"snapshot,omitempty"`
	Name           string `json:"name,omitempty"`
	Description    string `json:"description,omitempty"`
	Quiesce        bool   `json:"quiesce,omitempty"`
	Leave          bool   `json:"leave_disks,omitempty"`
	ChangeTracking *bool  `json:"change_tracking,omitempty"`
	Disk           string `json:"disk,omitempty"`
	ChangeID       string `json:"change_id,omitempty"`
	Start          int64  `json:"start"`
	Limit          int    `json:"limit,omitempty"`
}

// Answer is what the tests say: a fault, or the changed extents at and after `start` as [offset, length].
type Answer struct {
	Fault   *FaultSpec `json:"fault"`
	Extents [][2]int64 `json:"extents"`
}

// Tell tells and waits.
func (h *Hook) Tell(told Told) (*Answer, error) {
	if told.Event != "changed-areas" {
		h.book.Write(Entry{Kind: "hook", Method: told.Event, Object: told.VM, Result: told.Snapshot})
	}
	data, err := json.Marshal(told)
	if err != nil {
		return nil, err
	}
	got, err := http.Post(h.url, "application/json", bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("hook: %s", got.Status)
	}
	answer := new(Answer)
	return answer, json.NewDecoder(got.Body).Decode(answer)
}
