package main

import (
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Collector is the simulator's property collector without what is wrong with it: Fetch of a property that is not set
// panics, and two sessions that wait for updates take each other's.
type Collector struct {
	simulator.PropertyCollector

	mu      sync.Mutex
	seen    map[ref]map[ref]map[string]types.AnyType // filter -> object -> property
	version int
}

// FetchResponse is the answer to Fetch, which the API's documents don't mention and pyVmomi uses for every property.
type FetchResponse struct {
	Returnval types.AnyType `xml:"returnval,omitempty,typeattr"`
}

// FetchBody holds it.
type FetchBody struct {
	Res    *FetchResponse `xml:"FetchResponse,omitempty"`
	Fault_ *soap.Fault    `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

// Fault is the fault, or nil.
func (b *FetchBody) Fault() *soap.Fault { return b.Fault_ }

// Fetch reads one property of one object.
func (c *Collector) Fetch(ctx *simulator.Context, req interface{}) soap.HasFault {
	fields := reflect.ValueOf(req).Elem()
	this, prop := fields.FieldByName("This").Interface().(ref), fields.FieldByName("Prop").String()
	if this.Type == "ServiceInstance" && prop == "content" {
		content := simulator.Map.Get(this).(*simulator.ServiceInstance).Content
		return &FetchBody{Res: &FetchResponse{Returnval: content}}
	}
	if this.Type == "EventManager" && prop == "latestEvent" {
		response := new(FetchResponse)
		if latest := simulator.Map.Get(historyRef).(*History).Latest(); latest != nil {
			response.Returnval = latest
		}
		return &FetchBody{Res: response}
	}
	got := c.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{SpecSet: []types.PropertyFilterSpec{{
		PropSet:   []types.PropertySpec{{Type: this.Type, PathSet: []string{prop}}},
		ObjectSet: []types.ObjectSpec{{Obj: this}},
	}}})
	if got.Fault() != nil {
		return got
	}
	response := new(FetchResponse)
	for _, object := range got.(*methods.RetrievePropertiesExBody).Res.Returnval.Objects {
		for _, missing := range object.MissingSet {
			return &FetchBody{Fault_: simulator.Fault(missing.Fault.LocalizedMessage, missing.Fault.Fault)}
		}
		for _, property := range object.PropSet {
			response.Returnval = property.Val
		}
	}
	return &FetchBody{Res: response}
}

// WaitForUpdatesEx waits until a property that a filter names has another value than the last time.
func (c *Collector) WaitForUpdatesEx(ctx *simulator.Context, req *types.WaitForUpdatesEx) soap.HasFault {
	body := new(methods.WaitForUpdatesExBody)
	until := time.Now().Add(10 * time.Minute)
	if req.Options != nil && req.Options.MaxWaitSeconds != nil {
		until = time.Now().Add(time.Duration(*req.Options.MaxWaitSeconds) * time.Second)
	}
	for {
		set, fault := c.updates(ctx, req.Version == "")
		if fault != nil {
			body.Fault_ = fault
			return body
		}
		if len(set.FilterSet) > 0 || !time.Now().Before(until) {
			body.Res = new(types.WaitForUpdatesExResponse)
			if len(set.FilterSet) > 0 {
				body.Res.Returnval = set
			}
			return body
		}
		req.Version = "waiting"
		time.Sleep(10 * time.Millisecond)
	}
}

// WaitForUpdates is the same without an end.
func (c *Collector) WaitForUpdates(ctx *simulator.Context, req *types.WaitForUpdates) soap.HasFault {
	endless := &types.WaitForUpdatesEx{This: req.This, Version: req.Version}
	got := c.WaitForUpdatesEx(ctx, endless).(*methods.WaitForUpdatesExBody)
	body := &methods.WaitForUpdatesBody{Fault_: got.Fault_}
	if got.Res != nil && got.Res.Returnval != nil {
		body.Res = &types.WaitForUpdatesResponse{Returnval: *got.Res.Returnval}
	} else if got.Fault_ == nil {
		body.Fault_ = simulator.Fault("", new(types.RequestCanceled))
	}
	return body
}

func (c *Collector) updates(ctx *simulator.Context, afresh bool) (*types.UpdateSet, *soap.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if afresh || c.seen == nil {
		c.seen = make(map[ref]map[ref]map[string]types.AnyType)
	}
	c.version++
	set := &types.UpdateSet{Version: time.Now().Format(time.RFC3339Nano)}
	for _, at := range c.Filter {
		filter, ok := ctx.Session.Get(at).(*simulator.PropertyFilter)
		if !ok {
			continue
		}
		got := c.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{SpecSet: []types.PropertyFilterSpec{filter.Spec}})
		if got.Fault() != nil {
			return nil, got.Fault()
		}
		have := make(map[ref]map[string]types.AnyType)
		update := types.PropertyFilterUpdate{Filter: at}
		for _, object := range got.(*methods.RetrievePropertiesExBody).Res.Returnval.Objects {
			values := make(map[string]types.AnyType)
			before, known := c.seen[at][object.Obj]
			kind := types.ObjectUpdateKindModify
			if !known {
				kind = types.ObjectUpdateKindEnter
			}
			one := types.ObjectUpdate{Kind: kind, Obj: object.Obj}
			for _, property := range object.PropSet {
				values[property.Name] = property.Val
				if old, was := before[property.Name]; !was || !reflect.DeepEqual(old, property.Val) {
					one.ChangeSet = append(one.ChangeSet, types.PropertyChange{
						Name: property.Name, Op: types.PropertyChangeOpAssign, Val: property.Val,
					})
				}
			}
			for name := range before {
				if _, still := values[name]; !still {
					one.ChangeSet = append(one.ChangeSet, types.PropertyChange{Name: name, Op: types.PropertyChangeOpAssign})
				}
			}
			have[object.Obj] = values
			if !known || len(one.ChangeSet) > 0 {
				update.ObjectSet = append(update.ObjectSet, one)
			}
		}
		for object := range c.seen[at] {
			if _, still := have[object]; !still {
				update.ObjectSet = append(update.ObjectSet, types.ObjectUpdate{Kind: types.ObjectUpdateKindLeave, Obj: object})
			}
		}
		c.seen[at] = have
		if len(update.ObjectSet) > 0 {
			set.FilterSet = append(set.FilterSet, update)
		}
	}
	return set, nil
}
