package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const mostEvents = 1000

// History is vCenter's event history: what the site file tells, from the moment on that it reaches back to. The
// simulator's event manager knows neither time nor a limit; calls to it are sent here by the front.
type History struct {
	mo.EventManager

	inv     *Inventory
	started time.Time
}

var historyRef = ref{Type: "EventManager", Value: "site-events"}

func newHistory(inv *Inventory) *History {
	history := &History{inv: inv, started: time.Now().UTC()}
	history.Self = historyRef
	return history
}

// QueryEvents returns the events that a filter lets through, oldest first, the newest thousand at most.
func (h *History) QueryEvents(ctx *simulator.Context, req *types.QueryEvents) soap.HasFault {
	events := h.matching(&req.Filter)
	most := mostEvents
	if req.Filter.MaxCount > 0 && int(req.Filter.MaxCount) < most {
		most = int(req.Filter.MaxCount)
	}
	if len(events) > most {
		events = events[len(events)-most:]
	}
	return &methods.QueryEventsBody{Res: &types.QueryEventsResponse{Returnval: events}}
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

func (h *History) all() []types.BaseEvent {
	site := h.inv.Site()
	from := h.started.Add(-30 * 24 * time.Hour)
	if site.EventsFrom != nil {
		from = *site.EventsFrom
	}
	specs := append([]EventSpec{{Type: "UserLoginSessionEvent", Time: from, User: "oldest"}}, site.Events...)
	sort.SliceStable(specs, func(i, j int) bool { return specs[i].Time.Before(specs[j].Time) })
	var events []types.BaseEvent
	for _, spec := range specs {
		if !spec.Time.Before(from) {
			events = append(events, h.build(spec, int32(len(events)+1)))
		}
	}
	return events
}

func (h *History) build(spec EventSpec, key int32) types.BaseEvent {
	event, ok := types.BaseEvent(&types.EventEx{EventTypeId: spec.Type}), false
	if kind, known := types.TypeFunc()(spec.Type); known && !strings.Contains(spec.Type, ".") {
		if event, ok = reflect.New(kind).Interface().(types.BaseEvent); !ok {
			event = &types.EventEx{EventTypeId: spec.Type}
		}
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
	for _, event := range h.all() {
		if matches(event, filter) {
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
	if wanted := append(append([]string(nil), filter.EventTypeId...), filter.Type...); len(wanted) > 0 {
		if ex, ok := event.(*types.EventEx); ok && containsString(wanted, ex.EventTypeId) {
			// named by its ID
		} else if !isKind(reflect.TypeOf(event).Elem(), wanted) {
			return false
		}
	}
	return filter.Entity == nil || concerns(base, filter.Entity)
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
	events := r.history.matching(&r.filter)
	start := r.at - int(req.MaxCount)
	if start < 0 {
		start = 0
	}
	page := events[start:r.at]
	r.at = start
	return &methods.ReadPreviousEventsBody{Res: &types.ReadPreviousEventsResponse{Returnval: page}}
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
	if req.MaxCount > 0 {
		r.size = int(req.MaxCount)
	}
	r.reset()
	return &methods.SetCollectorPageSizeBody{Res: new(types.SetCollectorPageSizeResponse)}
}

// DestroyCollector ends it.
func (r *EventReader) DestroyCollector(ctx *simulator.Context, req *types.DestroyCollector) soap.HasFault {
	simulator.Map.Remove(r.Self)
	return &methods.DestroyCollectorBody{Res: new(types.DestroyCollectorResponse)}
}
