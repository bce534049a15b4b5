package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Machine is a VM with the methods that a replication needs. It is ours altogether: the simulator's own can neither
// track changes nor do anything that takes time. All fields are changed under its lock in simulator.Map, and what
// they point to is replaced rather than changed, because answers are encoded outside that lock.
type Machine struct {
	mo.VirtualMachine

	inv       *Inventory
	spec      VMSpec
	snapshots []*Snapshot // oldest first
	current   *Snapshot
	lastID    int32
	busy      *ref // the task that runs now
}

// show makes the VM look like its entry of the site file.
func (m *Machine) show(spec VMSpec, devices *Devices) error {
	config, err := devices.config(spec)
	if err != nil {
		return err
	}
	m.spec = spec
	m.Config = config
	m.Name = spec.Name
	host := m.inv.hosts[spec.Host].Self
	pool := m.inv.pool
	m.ResourcePool = &pool
	m.Runtime = types.VirtualMachineRuntimeInfo{
		Host:                &host,
		ConnectionState:     types.VirtualMachineConnectionStateConnected,
		PowerState:          types.VirtualMachinePowerState(spec.Power),
		ConsolidationNeeded: types.NewBool(spec.ConsolidationNeeded),
	}
	m.Capability = types.VirtualMachineCapability{
		SnapshotOperationsSupported:  !spec.Template,
		MultipleSnapshotsSupported:   true,
		QuiescedSnapshotsSupported:   true,
		PoweredOffSnapshotsSupported: true,
		ChangeTrackingSupported:      types.NewBool(hardwareVersion(spec.Version) >= 7),
	}
	m.Guest = &types.GuestInfo{
		ToolsStatus: types.VirtualMachineToolsStatus(spec.ToolsStatus),
		GuestId:     spec.GuestID, GuestFullName: spec.GuestName, HostName: spec.Name,
		GuestState: map[bool]string{true: "running", false: "notRunning"}[spec.Power == "poweredOn"],
	}
	m.Datastore, m.Network = nil, nil
	for _, disk := range spec.Disks {
		if at := devices.file(disk.Path).Datastore; at != nil && !contains(m.Datastore, *at) {
			m.Datastore = append(m.Datastore, *at)
		}
	}
	for _, nic := range spec.NICs {
		if at := m.inv.networks[nic.Network].Reference(); !contains(m.Network, at) {
			m.Network = append(m.Network, at)
		}
	}
	m.GuestHeartbeatStatus = types.ManagedEntityStatusGreen
	m.Summary = types.VirtualMachineSummary{
		Vm:      &m.Self,
		Runtime: m.Runtime,
		Config: types.VirtualMachineConfigSummary{
			Name: spec.Name, Template: spec.Template, VmPathName: config.Files.VmPathName, MemorySizeMB: spec.MemoryMiB,
			NumCpu: spec.CPUs, NumEthernetCards: int32(len(spec.NICs)), NumVirtualDisks: int32(len(spec.Disks)),
			Uuid: spec.BIOSUUID, InstanceUuid: spec.InstanceUUID, GuestId: spec.GuestID, GuestFullName: spec.GuestName,
		},
		QuickStats:    types.VirtualMachineQuickStats{GuestHeartbeatStatus: types.ManagedEntityStatusGreen},
		OverallStatus: types.ManagedEntityStatusGreen,
	}
	for _, snapshot := range m.snapshots {
		if err := snapshot.show(spec.Snapshots[snapshot.Self.Value], devices); err != nil {
			return err
		}
	}
	m.showTree()
	return nil
}

// showTree sets the properties that tell of snapshots.
func (m *Machine) showTree() {
	m.RootSnapshot, m.Snapshot = nil, nil
	if len(m.snapshots) == 0 {
		return
	}
	var under func(parent *Snapshot) []types.VirtualMachineSnapshotTree
	under = func(parent *Snapshot) (list []types.VirtualMachineSnapshotTree) {
		for _, snapshot := range m.snapshots {
			if snapshot.parent == parent {
				item := snapshot.item
				item.ChildSnapshotList = under(snapshot)
				list = append(list, item)
			}
		}
		return list
	}
	m.Snapshot = &types.VirtualMachineSnapshotInfo{RootSnapshotList: under(nil)}
	if m.current != nil {
		at := m.current.Self
		m.Snapshot.CurrentSnapshot = &at
	}
	for _, snapshot := range m.snapshots {
		snapshot.ChildSnapshot = nil
		for _, child := range m.snapshots {
			if child.parent == snapshot {
				snapshot.ChildSnapshot = append(snapshot.ChildSnapshot, child.Self)
			}
		}
		if snapshot.parent == nil {
			m.RootSnapshot = append(m.RootSnapshot, snapshot.Self)
		}
	}
}

// CreateSnapshotTask takes a snapshot. The tests freeze their disks while the hook waits.
func (m *Machine) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	body := new(methods.CreateSnapshot_TaskBody)
	if m.spec.Template {
		body.Fault_ = simulator.Fault("", &types.NotSupported{})
		return body
	}
	task, fault := m.start("createSnapshot", req, func() (types.AnyType, types.BaseMethodFault) {
		return m.createSnapshot(req)
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.CreateSnapshot_TaskResponse{Returnval: task}
	return body
}

// ReconfigVMTask knows one thing to change: change tracking.
func (m *Machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	body := new(methods.ReconfigVM_TaskBody)
	spec := req.Spec
	task, fault := m.start("reconfigure", req, func() (types.AnyType, types.BaseMethodFault) {
		if spec.ChangeTrackingEnabled == nil {
			return nil, &types.NotSupported{}
		}
		if hardwareVersion(m.spec.Version) < 7 {
			return nil, &types.InvalidArgument{InvalidProperty: "spec.changeTrackingEnabled"}
		}
		return nil, m.tell(Told{Event: "reconfigure", ChangeTracking: spec.ChangeTrackingEnabled})
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ReconfigVM_TaskResponse{Returnval: task}
	return body
}

// ConsolidateVMDisksTask merges what removed snapshots left.
func (m *Machine) ConsolidateVMDisksTask(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	body := new(methods.ConsolidateVMDisks_TaskBody)
	task, fault := m.start("consolidateDisks", req, func() (types.AnyType, types.BaseMethodFault) {
		return nil, m.tell(Told{Event: "consolidate"})
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ConsolidateVMDisks_TaskResponse{Returnval: task}
	return body
}

// RemoveAllSnapshotsTask removes every snapshot, whoever took it.
func (m *Machine) RemoveAllSnapshotsTask(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	body := new(methods.RemoveAllSnapshots_TaskBody)
	task, fault := m.start("removeAllSnapshots", req, func() (types.AnyType, types.BaseMethodFault) {
		for _, snapshot := range append([]*Snapshot(nil), m.snapshots...) {
			if fault := m.removeSnapshot(snapshot, false, false); fault != nil {
				return nil, fault
			}
		}
		return nil, nil
	})
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.RemoveAllSnapshots_TaskResponse{Returnval: task}
	return body
}

// tell tells the tests, waits for their answer, and shows what they changed.
func (m *Machine) tell(told Told) types.BaseMethodFault {
	told.VM = m.Self.Value
	answer, err := m.inv.hook.Tell(told)
	if err != nil {
		return &types.SystemError{RuntimeFault: types.RuntimeFault{}, Reason: err.Error()}
	}
	if answer.Fault != nil {
		return answer.Fault.Build(m.Self)
	}
	m.inv.Refresh()
	return nil
}

// start runs a task of this VM, which can have one at a time. The VM's lock is held by the caller.
func (m *Machine) start(
	name string, req interface{}, run func() (types.AnyType, types.BaseMethodFault),
) (ref, *soap.Fault) {
	if m.busy != nil {
		return ref{}, simulator.Fault("Another task is already in progress.", &types.TaskInProgress{Task: *m.busy})
	}
	task := newTask(m, name)
	m.busy = &task.Self
	m.RecentTask = append([]ref{task.Self}, m.RecentTask...)
	if len(m.RecentTask) > 10 {
		m.RecentTask = m.RecentTask[:10]
	}
	go task.run(req, run, func() {
		simulator.Map.WithLock(m.Self, func() {
			m.busy = nil
			m.RecentTask = without(m.RecentTask, task.Self)
		})
	})
	return task.Self, nil
}

func hardwareVersion(version string) int {
	number, _ := strconv.Atoi(strings.TrimPrefix(version, "vmx-"))
	return number
}

func contains(list []ref, one ref) bool {
	return simulator.FindReference(list, one) != nil
}

func without(list []ref, one ref) []ref {
	var rest []ref
	for _, each := range list {
		if each != one {
			rest = append(rest, each)
		}
	}
	return rest
}

func now() *time.Time {
	at := time.Now().UTC()
	return &at
}
