package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Rule makes one kind of thing go wrong, or slowly.
type Rule struct {
	Method     string                 `json:"method"` // as in the API: CreateSnapshot_Task; "*" is any
	VM         string                 `json:"vm"`     // moref; empty is any
	Args       map[string]interface{} `json:"args"`   // arguments that must be so: {"quiesce": true}
	Skip       int                    `json:"skip"`   // let so many pass first
	Times      int                    `json:"times"`  // then so often; 0 is always
	Stage      string                 `json:"stage"`  // call, task, page, disks; what is meant where it is not given
	Fault      *FaultSpec             `json:"fault"`
	DelayS     float64                `json:"delay_s"`
	HTTP       int                    `json:"http"`        // answer with this status only
	Drop       string                 `json:"drop"`        // cut the connection: "before" doing it, or "after"
	Page       string                 `json:"page"`        // an odd page of changed areas: see page()
	Extents    int                    `json:"extents"`     // so many extents a page at most
	LeaveDisks bool                   `json:"leave_disks"` // RemoveSnapshot: consolidation is needed afterwards
	Used       int                    `json:"used"`

	passed int
}

// FaultSpec is a fault by the name of its class in the API.
type FaultSpec struct {
	Type    string          `json:"type"`
	Detail  json.RawMessage `json:"detail"` // its properties
	Message string          `json:"message"`
	After   bool            `json:"after"` // only once the work is done
}

// Build makes the fault; one that names an object names `about` unless told otherwise.
func (f *FaultSpec) Build(about ref) types.BaseMethodFault {
	kind, known := types.TypeFunc()(f.Type)
	if !known {
		return &types.SystemError{Reason: "no such fault: " + f.Type}
	}
	made := reflect.New(kind)
	if len(f.Detail) > 0 {
		if err := json.Unmarshal(f.Detail, made.Interface()); err != nil {
			return &types.SystemError{Reason: err.Error()}
		}
	}
	for _, name := range []string{"Object", "Obj"} {
		if field := made.Elem().FieldByName(name); field.IsValid() && field.IsZero() && field.Type() == reflect.TypeOf(about) {
			field.Set(reflect.ValueOf(about))
		}
	}
	fault, ok := made.Interface().(types.BaseMethodFault)
	if !ok {
		return &types.SystemError{Reason: "not a fault: " + f.Type}
	}
	return fault
}

func (r *Rule) delay() time.Duration { return time.Duration(r.DelayS * float64(time.Second)) }

// Occasion is a moment at which a rule may act.
type Occasion struct {
	Method, Stage, VM string
	Args              map[string]interface{}
}

// Rules are the rules in force, in the order in which they were given.
type Rules struct {
	mu   sync.Mutex
	list []*Rule
}

// Add puts rules in force.
func (r *Rules) Add(rules []*Rule) error {
	for _, rule := range rules {
		if rule.Method == "" {
			return fmt.Errorf("a rule without a method")
		}
		switch {
		case rule.Stage != "":
		case rule.Page != "" || rule.Extents > 0:
			rule.Stage = "page"
		case rule.LeaveDisks:
			rule.Stage = "disks"
		case strings.HasSuffix(rule.Method, "_Task") && rule.HTTP == 0 && rule.Drop == "":
			rule.Stage = "task"
		default:
			rule.Stage = "call"
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, rules...)
	return nil
}

// Clear ends all rules.
func (r *Rules) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = nil
}

// All returns copies of the rules in force.
func (r *Rules) All() []Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Rule{}
	for _, rule := range r.list {
		list = append(list, *rule)
	}
	return list
}

// Take returns the first rule that acts at this moment, counted as used, or nil.
func (r *Rules) Take(at Occasion) *Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range r.list {
		if rule.Stage != at.Stage || (rule.Method != at.Method && rule.Method != "*") || (rule.VM != "" && rule.VM != at.VM) {
			continue
		}
		if !agrees(rule.Args, at.Args) || (rule.Times > 0 && rule.Used >= rule.Times) {
			continue
		}
		if rule.passed < rule.Skip {
			rule.passed++
			continue
		}
		rule.Used++
		taken := *rule
		return &taken
	}
	return nil
}

func agrees(want, have map[string]interface{}) bool {
	for name, value := range want {
		if fmt.Sprint(have[name]) != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

// arguments returns the plain arguments of a call: numbers, strings, booleans, morefs.
func arguments(req interface{}) map[string]interface{} {
	args := make(map[string]interface{})
	value := reflect.Indirect(reflect.ValueOf(req))
	if value.Kind() != reflect.Struct {
		return args
	}
	for i := 0; i < value.NumField(); i++ {
		name, field := value.Type().Field(i).Name, reflect.Indirect(value.Field(i))
		if name == "This" || name == "Password" || !field.IsValid() {
			continue
		}
		name = strings.ToLower(name[:1]) + name[1:]
		if at, ok := field.Interface().(ref); ok {
			args[name] = at.Value
			continue
		}
		switch field.Kind() {
		case reflect.Bool, reflect.String, reflect.Int32, reflect.Int64:
			args[name] = field.Interface()
		}
	}
	if reconfigure, ok := req.(*types.ReconfigVM_Task); ok {
		if tracking := reconfigure.Spec.ChangeTrackingEnabled; tracking != nil {
			args["changeTrackingEnabled"] = *tracking
		}
	}
	return args
}
