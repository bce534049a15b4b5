package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// Journal is a file with a JSON line for every call, task and question to the tests, in the order in which they ended.
type Journal struct {
	mu    sync.Mutex
	file  *os.File
	count int
	start time.Time
}

// Entry is one line.
type Entry struct {
	N      int                    `json:"n"`
	At     float64                `json:"at_s"` // since the start
	Took   float64                `json:"took_s,omitempty"`
	Kind   string                 `json:"kind"` // call, rest, task, hook
	Method string                 `json:"method"`
	Object string                 `json:"object"`
	User   string                 `json:"user,omitempty"`
	Args   map[string]interface{} `json:"args,omitempty"`
	Task   string                 `json:"task,omitempty"`
	State  string                 `json:"state,omitempty"`
	Fault  string                 `json:"fault,omitempty"`
	Result string                 `json:"result,omitempty"`
}

// NewJournal starts a journal in a new file.
func NewJournal(path string) (*Journal, error) {
	file, err := os.Create(path)
	return &Journal{file: file, start: time.Now()}, err
}

// Write adds a line.
func (j *Journal) Write(entry Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.count++
	entry.N, entry.At = j.count, time.Since(j.start).Seconds()
	line, err := json.Marshal(entry)
	if err == nil {
		_, _ = j.file.Write(append(line, '\n'))
	}
}
