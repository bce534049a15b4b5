package main

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Task runs beside the call that started it, as vCenter's do; the simulator's own have ended before that returns.
type Task struct {
	mo.Task

	machine *Machine
	method  string
}

func newTask(machine *Machine, id string) *Task {
	task := &Task{machine: machine, method: strings.ToUpper(id[:1]) + id[1:] + "_Task"}
	if id == "reconfigure" {
		task.method = "ReconfigVM_Task"
	} else if id == "consolidateDisks" {
		task.method = "ConsolidateVMDisks_Task"
	}
	task.Self = ref{Type: "Task", Value: fmt.Sprintf("task-%d", machine.inv.NextID())}
	entity := machine.Self
	task.Info = types.TaskInfo{
		Key: task.Self.Value, Task: task.Self, Name: task.method, DescriptionId: "VirtualMachine." + id,
		Entity: &entity, EntityName: machine.Name, State: types.TaskInfoStateRunning,
		Reason: &types.TaskReasonUser{UserName: "site"}, QueueTime: *now(), StartTime: now(),
	}
	task.Info.EventChainId = machine.inv.history.Note(EventSpec{Type: "TaskEvent", VM: machine.Self.Value}, &task.Info)
	simulator.Map.Put(task)
	return task
}

// run does the work, after the delay and fault that a rule may ask for.
func (t *Task) run(req interface{}, work func() (types.AnyType, types.BaseMethodFault), ended func()) {
	var result types.AnyType
	var fault types.BaseMethodFault
	message := ""
	rule := t.machine.inv.rules.Take(Occasion{
		Method: t.method, Stage: "task", VM: t.machine.Self.Value, Args: arguments(req),
	})
	if rule != nil {
		time.Sleep(rule.delay())
	}
	if rule != nil && rule.Fault != nil && !rule.Fault.After {
		fault, message = rule.Fault.Build(t.machine.Self), rule.Fault.Message
	} else {
		result, fault = work()
		if rule != nil && rule.Fault != nil && fault == nil {
			result, fault, message = nil, rule.Fault.Build(t.machine.Self), rule.Fault.Message
		}
	}
	name := ""
	simulator.Map.WithLock(t.Self, func() {
		info := t.Info
		info.CompleteTime, info.State, info.Result = now(), types.TaskInfoStateSuccess, result
		if fault != nil {
			name = reflect.TypeOf(fault).Elem().Name()
			if message == "" {
				message = name
			}
			info.State = types.TaskInfoStateError
			info.Error = &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: message}
		}
		ended() // before the task is seen to have ended: whoever waited for it may start the next
		t.machine.inv.book.Write(Entry{
			Kind: "task", Method: t.method, Object: t.machine.Self.Value, Task: t.Self.Value, State: string(info.State),
			Fault: name, Result: resultName(result),
		})
		t.Info = info
	})
}

func resultName(result types.AnyType) string {
	if at, ok := result.(ref); ok {
		return at.Value
	}
	return ""
}
