package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Snapshot is a snapshot of a VM. Which files its disks are in changes when older snapshots are removed.
type Snapshot struct {
	mo.VirtualMachineSnapshot

	machine *Machine
	parent  *Snapshot
	spec    VMSpec // the VM as it was
	item    types.VirtualMachineSnapshotTree
}

// show gives the snapshot's config the disks' paths and change IDs. A disk that the snapshot does not cover
// (independent, physical RDM) stays as the VM has it, without a change ID.
func (s *Snapshot) show(disks map[string]SnapshotDisk, devices *Devices) error {
	spec := s.spec
	spec.Disks = append([]DiskSpec(nil), s.spec.Disks...)
	for i := range spec.Disks {
		at := &spec.Disks[i]
		at.ChangeID = ""
		if disk, ok := disks[strconv.Itoa(int(at.Key))]; ok {
			at.Path, at.Parents, at.ChangeID, at.Capacity = disk.Path, disk.Parents, disk.ChangeID, disk.Capacity
		}
	}
	config, err := devices.config(spec)
	if err != nil {
		return err
	}
	s.spec = spec
	s.Config = *config
	return nil
}

// createSnapshot does the work of CreateSnapshot_Task, outside any lock until the end.
func (m *Machine) createSnapshot(req *types.CreateSnapshot_Task) (types.AnyType, types.BaseMethodFault) {
	snapshot := &Snapshot{machine: m}
	snapshot.Self = ref{Type: "VirtualMachineSnapshot", Value: fmt.Sprintf("snapshot-%d", m.inv.NextID())}
	snapshot.Vm = m.Self
	told := Told{
		Event: "create-snapshot", Snapshot: snapshot.Self.Value, Name: req.Name, Description: req.Description,
		Quiesce: req.Quiesce,
	}
	if fault := m.tell(told); fault != nil {
		return nil, fault
	}
	var err error
	m.inv.mu.Lock() // always before a VM's lock
	simulator.Map.WithLock(m.Self, func() {
		snapshot.spec = m.spec
		if err = snapshot.show(m.spec.Snapshots[snapshot.Self.Value], &Devices{inv: m.inv}); err != nil {
			return
		}
		m.lastID++
		snapshot.parent = m.current
		snapshot.item = types.VirtualMachineSnapshotTree{
			Snapshot: snapshot.Self, Vm: m.Self, Name: req.Name, Description: req.Description, Id: m.lastID,
			CreateTime: time.Now().UTC(), State: m.Runtime.PowerState, Quiesced: req.Quiesce,
			ReplaySupported: types.NewBool(false),
		}
		m.snapshots = append(m.snapshots, snapshot)
		m.current = snapshot
		m.showTree()
	})
	m.inv.mu.Unlock()
	if err != nil {
		return nil, &types.SystemError{Reason: err.Error()}
	}
	simulator.Map.Put(snapshot)
	return snapshot.Self, nil
}

// RemoveSnapshotTask removes this snapshot and keeps what was written since.
func (s *Snapshot) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	body := new(methods.RemoveSnapshot_TaskBody)
	rule := s.machine.inv.rules.Take(Occasion{Method: "RemoveSnapshot_Task", Stage: "disks", VM: s.machine.Self.Value})
	var task ref
	var fault *soap.Fault
	simulator.Map.WithLock(s.machine.Self, func() {
		task, fault = s.machine.start("removeSnapshot", req, func() (types.AnyType, types.BaseMethodFault) {
			return nil, s.machine.removeSnapshot(s, req.RemoveChildren, rule != nil)
		})
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RemoveSnapshot_TaskResponse{Returnval: task}
	return body
}

// removeSnapshot does the work of RemoveSnapshot_Task. With `leave` the disks are not merged: the VM needs
// consolidation afterwards.
func (m *Machine) removeSnapshot(snapshot *Snapshot, children, leave bool) types.BaseMethodFault {
	gone := []*Snapshot{snapshot}
	if children {
		for i := 0; i < len(gone); i++ {
			for _, each := range m.snapshots {
				if each.parent == gone[i] {
					gone = append(gone, each)
				}
			}
		}
	}
	if simulator.Map.Get(snapshot.Self) == nil {
		return &types.ManagedObjectNotFound{Obj: snapshot.Self}
	}
	for i := len(gone) - 1; i >= 0; i-- {
		one := gone[i]
		if fault := m.tell(Told{Event: "remove-snapshot", Snapshot: one.Self.Value, Leave: leave}); fault != nil {
			return fault
		}
		simulator.Map.WithLock(m.Self, func() {
			var rest []*Snapshot
			for _, each := range m.snapshots {
				if each.parent == one {
					each.parent = one.parent
				}
				if each != one {
					rest = append(rest, each)
				}
			}
			m.snapshots = rest
			if m.current == one {
				m.current = one.parent
			}
			m.showTree()
		})
		simulator.Map.Remove(one.Self)
	}
	return nil
}

// RevertToSnapshotTask takes the VM back to this snapshot.
func (s *Snapshot) RevertToSnapshotTask(ctx *simulator.Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	body := new(methods.RevertToSnapshot_TaskBody)
	m := s.machine
	var task ref
	var fault *soap.Fault
	simulator.Map.WithLock(m.Self, func() {
		task, fault = m.start("revertToSnapshot", req, func() (types.AnyType, types.BaseMethodFault) {
			if fault := m.tell(Told{Event: "revert", Snapshot: s.Self.Value}); fault != nil {
				return nil, fault
			}
			simulator.Map.WithLock(m.Self, func() {
				m.current = s
				m.showTree()
			})
			return nil, nil
		})
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RevertToSnapshot_TaskResponse{Returnval: task}
	return body
}
