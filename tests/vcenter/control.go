package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Control is how tests make things happen. It is plain HTTP on the loopback address.
type Control struct {
	inv   *Inventory
	rules *Rules
	front *Front
	door  *Door
}

// Handler serves /control/.
func (c *Control) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/control/rules", c.answer(c.setRules))
	mux.HandleFunc("/control/expire", c.answer(func(*http.Request) (interface{}, error) {
		return map[string]int{"sessions": c.front.Expire()}, nil
	}))
	mux.HandleFunc("/control/gone", c.answer(c.gone))
	mux.HandleFunc("/control/snapshot", c.answer(c.snapshot))
	mux.HandleFunc("/control/task", c.answer(c.task))
	mux.HandleFunc("/control/state", c.answer(c.state))
	mux.HandleFunc("/control/events", c.answer(func(*http.Request) (interface{}, error) {
		c.inv.Refresh()
		return map[string]int32{"newest": c.inv.history.Newest()}, nil
	}))
	return mux
}

func (c *Control) answer(do func(*http.Request) (interface{}, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := do(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(result)
	}
}

// setRules: POST adds a list of rules, DELETE ends all, GET lists them with how often each was used.
func (c *Control) setRules(r *http.Request) (interface{}, error) {
	switch r.Method {
	case http.MethodPost:
		var rules []*Rule
		if err := json.NewDecoder(r.Body).Decode(&rules); err != nil {
			return nil, err
		}
		return c.rules.All(), c.rules.Add(rules)
	case http.MethodDelete:
		c.rules.Clear()
	}
	return c.rules.All(), nil
}

// gone: {"seconds": 3, "how": "refuse"}, or with an HTTP status: {"seconds": 3, "status": 503}.
func (c *Control) gone(r *http.Request) (interface{}, error) {
	var req struct {
		Seconds float64 `json:"seconds"`
		Status  int     `json:"status"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	howLong := time.Duration(req.Seconds * float64(time.Second))
	if req.Status != 0 {
		c.front.Answer(req.Status)
		time.AfterFunc(howLong, func() { c.front.Answer(0) })
	} else {
		c.door.Shut(howLong)
	}
	return req, nil
}

// snapshot takes a snapshot as somebody else would: {"vm", "name", "description"}.
func (c *Control) snapshot(r *http.Request) (interface{}, error) {
	req, machine, err := c.request(r)
	if err != nil {
		return nil, err
	}
	result, fault := machine.createSnapshot(&types.CreateSnapshot_Task{Name: req.Name, Description: req.Description})
	if fault != nil {
		return nil, fmt.Errorf("%T", fault)
	}
	return map[string]string{"snapshot": resultName(result)}, nil
}

// task has somebody else's task run on a VM for a while: {"vm", "seconds"}.
func (c *Control) task(r *http.Request) (interface{}, error) {
	req, machine, err := c.request(r)
	if err != nil {
		return nil, err
	}
	var failed error
	simulator.Map.WithLock(machine.Self, func() {
		_, fault := machine.start("createSnapshot", nil, func() (types.AnyType, types.BaseMethodFault) {
			time.Sleep(time.Duration(req.Seconds * float64(time.Second)))
			return nil, nil
		})
		if fault != nil {
			failed = fmt.Errorf("%s", fault.String)
		}
	})
	return req, failed
}

type controlRequest struct {
	VM          string  `json:"vm"`
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Seconds     float64 `json:"seconds"`
}

func (c *Control) request(r *http.Request) (*controlRequest, *Machine, error) {
	req := new(controlRequest)
	if err := json.NewDecoder(r.Body).Decode(req); err != nil {
		return nil, nil, err
	}
	c.inv.Refresh()
	machine := c.inv.Machine(req.VM)
	if machine == nil {
		return nil, nil, fmt.Errorf("no VM %s", req.VM)
	}
	return req, machine, nil
}

// state tells what is: per VM its snapshots, oldest first, and whether a task runs.
func (c *Control) state(*http.Request) (interface{}, error) {
	type item struct {
		Snapshot    string `json:"snapshot"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Quiesced    bool   `json:"quiesced"`
	}
	type vm struct {
		Snapshots []item `json:"snapshots"`
		Busy      bool   `json:"busy"`
	}
	c.inv.Refresh()
	vms := make(map[string]vm)
	for _, spec := range c.inv.Site().VMs {
		machine := c.inv.Machine(spec.Moref)
		if machine == nil {
			continue
		}
		simulator.Map.WithLock(machine.Self, func() {
			one := vm{Snapshots: []item{}, Busy: machine.busy != nil}
			for _, s := range machine.snapshots {
				one.Snapshots = append(one.Snapshots, item{s.Self.Value, s.item.Name, s.item.Description, s.item.Quiesced})
			}
			vms[spec.Moref] = one
		})
	}
	return map[string]interface{}{"vms": vms}, nil
}
