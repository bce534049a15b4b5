package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const mostEvents = 1000

// History is vCenter's event history: what the site file tells, and what vCenter itself notes of logins and tasks. Keys
// are given in the order in which events become known, whatever their dates; what is older than the site file says is
// forgotten. The simulator's event manager knows none of that; calls to it are sent here by the front.
type History struct {
	mo.EventManager

	inv *Inventory

	mu       sync.Mutex
	database string // another one in the site file: counted anew
	last     int32
	keys     map[int64]int32 // of the site file's events, by serial; 0: forgotten with its database
	own      []ownEvent
}

type ownEvent struct {
	key  int32
	spec EventSpec
	task *types.TaskInfo
}

var (
	historyRef = ref{Type: "EventManager", Value: "site-events"}
	clockRef   = ref{Type: "ServiceInstance", Value: "site-clock"}
)

func newHistory(inv *Inventory) *History {
	history := &History{inv: inv, keys: make(map[int64]int32)}
	history.Self = historyRef
	return history
}

// Clock is vCenter's: that of this machine, and what the site file says that it is ahead.
type Clock struct {
	mo.ServiceInstance

	inv *Inventory
}

func (inv *Inventory) now() time.Time {
	return time.Now().UTC().Add(time.Duration(inv.Site().ClockAheadS * float64(time.Second)))
}

// CurrentTime returns vCenter's time.
func (c *Clock) CurrentTime(*types.CurrentTime) soap.HasFault {
	return &methods.CurrentTimeBody{Res: &types.CurrentTimeResponse{Returnval: c.inv.now()}}
}

// Note adds an event of vCenter's own; its key. task: of a TaskEvent.
func (h *History) Note(spec EventSpec, task *types.TaskInfo) int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	spec.Time = h.inv.now()
	h.last++
	if task != nil {
		copied := *task
		copied.EventChainId = h.last
		task = &copied
	}
	h.own = append(h.own, ownEvent{h.last, spec, task})
	return h.last
}

// Newest is the key that was given last.
func (h *History) Newest() int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	return h.last
}

// refresh gives keys to what is new in the site file.
func (h *History) refresh() {
	site := h.inv.Site()
	if at := site.EventDatabase; at.ID != h.database {
		h.database = at.ID
		var kept []ownEvent
		for _, one := range h.own {
			if one.key <= at.Keep {
				kept = append(kept, one)
			}
		}
		h.own, h.last = kept, at.Next-1
		for serial, key := range h.keys {
			if key > at.Keep {
				h.keys[serial] = 0
			}
		}
	}
	for _, spec := range site.Events {
		if _, known := h.keys[spec.Serial]; !known {
			h.last++
			h.keys[spec.Serial] = h.last
		}
	}
}

// Latest returns the event with the newest key, also one that can't be queried yet; nil if there is none.
func (h *History) Latest() types.BaseEvent {
	var latest types.BaseEvent
	for _, event := range h.all(true) {
		if latest == nil || event.GetEvent().Key > latest.GetEvent().Key {
			latest = event
		}
	}
	return latest
}

// QueryEvents returns the events that a filter lets through, the thousand that are dated newest at most, these first.
func (h *History) QueryEvents(ctx *simulator.Context, req *types.QueryEvents) soap.HasFault {
	events := h.matching(&req.Filter)
	most := mostEvents
	if req.Filter.MaxCount > 0 && int(req.Filter.MaxCount) < most {
		most = int(req.Filter.MaxCount)
	}
	if len(events) > most {
		events = events[len(events)-most:]
	}
	answer := make([]types.BaseEvent, 0, len(events))
	for i := len(events) - 1; i >= 0; i-- {
		answer = append(answer, events[i])
	}
	return &methods.QueryEventsBody{Res: &types.QueryEventsResponse{Returnval: answer}}
}

// CreateCollectorForEvents returns a collector that stands before the latest page.
func (h *History) CreateCollectorForEvents(ctx *simulator.Context, req *types.CreateCollectorForEvents) soap.HasFault {
	reader := &EventReader{history: h, filter: req.Filter, size: 10}
	reader.Self = ref{Type: "EventHistoryCollector", Value: fmt.Sprintf("events-%d", h.inv.NextID())}
	reader.Filter = req.Filter
	reader.reset()
	simulator.Map.Put(reader)
	return &methods.CreateCollectorForEventsBody{Res: &types.CreateCollectorForEventsResponse{Returnval: reader.Self}}
}

// all returns the events that are remembered, by their dates. They are built without the lock: a VM that starts a task
// waits for it, and whoever shows that VM holds the inventory's.
func (h *History) all(hidden bool) []types.BaseEvent {
	var events []types.BaseEvent
	for _, one := range h.remembered(hidden) {
		events = append(events, h.build(one.spec, one.key, one.task))
	}
	sort.SliceStable(events, func(i, j int) bool {
		return events[i].GetEvent().CreatedTime.Before(events[j].GetEvent().CreatedTime)
	})
	return events
}

func (h *History) remembered(hidden bool) []ownEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	site := h.inv.Site()
	list := append([]ownEvent(nil), h.own...)
	for _, spec := range site.Events {
		if key := h.keys[spec.Serial]; key != 0 {
			list = append(list, ownEvent{key, spec, nil})
		}
	}
	var found []ownEvent
	for _, one := range list {
		forgotten := site.EventsFrom != nil && one.spec.Time.Before(*site.EventsFrom)
		if hidden || !one.spec.Hidden && !forgotten {
			found = append(found, one)
		}
	}
	return found
}

func (h *History) build(spec EventSpec, key int32, task *types.TaskInfo) types.BaseEvent {
	event, ok := types.BaseEvent(&types.EventEx{EventTypeId: spec.Type}), false
	if kind, known := types.TypeFunc()(spec.Type); known && !strings.Contains(spec.Type, ".") {
		if event, ok = reflect.New(kind).Interface().(types.BaseEvent); !ok {
			event = &types.EventEx{EventTypeId: spec.Type}
		}
	}
	if of, ok := event.(*types.TaskEvent); ok && task != nil {
		of.Info = *task
	}
	base := event.GetEvent()
	defer fill(event)
	base.Key, base.ChainId, base.CreatedTime, base.UserName = key, key, spec.Time.UTC(), spec.User
	base.FullFormattedMessage = spec.Message
	base.Datacenter = &types.DatacenterEventArgument{
		EntityEventArgument: types.EntityEventArgument{Name: h.inv.dc.Name}, Datacenter: h.inv.dc.Self,
	}
	if machine := h.inv.Machine(spec.VM); machine != nil {
		base.Vm = &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: machine.Name}, Vm: machine.Self}
		if spec.Host == "" {
			spec.Host = machine.spec.Host
		}
	}
	if host := h.inv.hosts[spec.Host]; host != nil {
		base.Host = &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: host.Name}, Host: host.Self}
	}
	return event
}

// fill gives an event the hosts and datacenters that its class must have, for a reference to nothing can't be read.
func fill(event types.BaseEvent) {
	base, value := event.GetEvent(), reflect.ValueOf(event).Elem()
	for i := 0; i < value.NumField(); i++ {
		field := value.Field(i)
		switch {
		case field.Type() == reflect.TypeOf(types.HostEventArgument{}) && base.Host != nil:
			field.Set(reflect.ValueOf(*base.Host))
		case field.Type() == reflect.TypeOf(types.DatacenterEventArgument{}):
			field.Set(reflect.ValueOf(*base.Datacenter))
		}
	}
}

func (h *History) matching(filter *types.EventFilterSpec) []types.BaseEvent {
	var list []types.BaseEvent
	for _, event := range h.all(false) {
		if matches(event, filter) {
			if filter.DisableFullMessage != nil && *filter.DisableFullMessage {
				event.GetEvent().FullFormattedMessage = ""
			}
			list = append(list, event)
		}
	}
	return list
}

func matches(event types.BaseEvent, filter *types.EventFilterSpec) bool {
	base := event.GetEvent()
	if by := filter.Time; by != nil {
		early := by.BeginTime != nil && base.CreatedTime.Before(*by.BeginTime)
		late := by.EndTime != nil && base.CreatedTime.After(*by.EndTime)
		if early || late {
			return false
		}
	}
	if by := filter.UserName; by != nil && len(by.UserList) > 0 && !containsString(by.UserList, base.UserName) {
		return false
	}
	if filter.EventChainId != 0 && base.ChainId != filter.EventChainId {
		return false
	}
	if len(filter.EventTypeId) > 0 && !containsString(filter.EventTypeId, kindOf(event)) {
		return false // not what is derived from a class
	}
	if len(filter.Type) > 0 && !isKind(reflect.TypeOf(event).Elem(), filter.Type) {
		return false
	}
	return filter.Entity == nil || concerns(base, filter.Entity)
}

func kindOf(event types.BaseEvent) string {
	if ex, ok := event.(*types.EventEx); ok {
		return ex.EventTypeId
	}
	return reflect.TypeOf(event).Elem().Name()
}

func concerns(event *types.Event, by *types.EventFilterSpecByEntity) bool {
	whole := by.Entity.Type == "Folder" || by.Entity.Type == "Datacenter" || by.Entity.Type == "ClusterComputeResource"
	if whole && by.Recursion != types.EventFilterSpecRecursionOptionSelf {
		return true // the site has one of each
	}
	if event.Vm != nil && event.Vm.Vm == by.Entity {
		return by.Recursion != types.EventFilterSpecRecursionOptionChildren
	}
	return event.Host != nil && event.Host.Host == by.Entity
}

// isKind tells whether a class is one of those named, or derived from one.
func isKind(kind reflect.Type, names []string) bool {
	if containsString(names, kind.Name()) {
		return true
	}
	for i := 0; i < kind.NumField(); i++ {
		if field := kind.Field(i); field.Anonymous && field.Type.Kind() == reflect.Struct && isKind(field.Type, names) {
			return true
		}
	}
	return false
}

func containsString(list []string, one string) bool {
	for _, each := range list {
		if each == one {
			return true
		}
	}
	return false
}

// EventReader is a collector: a place in the list of events that a filter lets through.
type EventReader struct {
	mo.EventHistoryCollector

	history *History
	filter  types.EventFilterSpec
	size    int
	at      int
}

func (r *EventReader) reset() {
	events := r.history.matching(&r.filter)
	r.at = len(events) - r.size
	if r.at < 0 {
		r.at = 0
	}
	r.LatestPage = events[r.at:]
}

// ReadNextEvents reads towards now.
func (r *EventReader) ReadNextEvents(ctx *simulator.Context, req *types.ReadNextEvents) soap.HasFault {
	if fault := outOfRange(req.MaxCount); fault != nil {
		return &methods.ReadNextEventsBody{Fault_: fault}
	}
	events := r.history.matching(&r.filter)
	end := r.at + int(req.MaxCount)
	if end > len(events) {
		end = len(events)
	}
	page := events[r.at:end]
	r.at = end
	return &methods.ReadNextEventsBody{Res: &types.ReadNextEventsResponse{Returnval: page}}
}

// ReadPreviousEvents reads into the past.
func (r *EventReader) ReadPreviousEvents(ctx *simulator.Context, req *types.ReadPreviousEvents) soap.HasFault {
	if fault := outOfRange(req.MaxCount); fault != nil {
		return &methods.ReadPreviousEventsBody{Fault_: fault}
	}
	events := r.history.matching(&r.filter)
	start := r.at - int(req.MaxCount)
	if start < 0 {
		start = 0
	}
	page := events[start:r.at]
	r.at = start
	return &methods.ReadPreviousEventsBody{Res: &types.ReadPreviousEventsResponse{Returnval: page}}
}

func outOfRange(count int32) *soap.Fault {
	if count > 0 && count <= mostEvents {
		return nil
	}
	return simulator.Fault("A specified parameter was not correct: maxCount", &types.InvalidArgument{InvalidProperty: "maxCount"})
}

// RewindCollector goes to the oldest event.
func (r *EventReader) RewindCollector(ctx *simulator.Context, req *types.RewindCollector) soap.HasFault {
	r.at = 0
	return &methods.RewindCollectorBody{Res: new(types.RewindCollectorResponse)}
}

// ResetCollector goes before the latest page.
func (r *EventReader) ResetCollector(ctx *simulator.Context, req *types.ResetCollector) soap.HasFault {
	r.reset()
	return &methods.ResetCollectorBody{Res: new(types.ResetCollectorResponse)}
}

// SetCollectorPageSize sets the size of the latest page.
func (r *EventReader) SetCollectorPageSize(ctx *simulator.Context, req *types.SetCollectorPageSize) soap.HasFault {
	if fault := outOfRange(req.MaxCount); fault != nil {
		return &methods.SetCollectorPageSizeBody{Fault_: fault}
	}
	r.size = int(req.MaxCount)
	r.reset()
	return &methods.SetCollectorPageSizeBody{Res: new(types.SetCollectorPageSizeResponse)}
}

// DestroyCollector ends it.
func (r *EventReader) DestroyCollector(ctx *simulator.Context, req *types.DestroyCollector) soap.HasFault {
	simulator.Map.Remove(r.Self)
	return &methods.DestroyCollectorBody{Res: new(types.DestroyCollectorResponse)}
}
