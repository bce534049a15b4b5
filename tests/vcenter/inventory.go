package main

import (
	"fmt"
	"log"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/vpx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// Inventory keeps vCenter's tree of objects the same as the site file.
type Inventory struct {
	seq int64 // changed atomically, so first

	file  *SiteFile
	hook  *Hook
	rules *Rules
	book  *Journal

	service *simulator.Service
	dc      *simulator.Datacenter
	pool    ref
	history *History
	hosts   map[string]*simulator.HostSystem

	site atomic.Value // *Site; read where locks are held

	mu       sync.Mutex
	machines map[string]*Machine
	networks map[string]mo.Entity
	stores   map[string]mo.Entity
}

// NewInventory builds a datacenter with one cluster and the site's hosts, and fills it from the site file.
func NewInventory(file *SiteFile, hook *Hook, rules *Rules, book *Journal) (*Inventory, error) {
	site, _, err := file.Latest()
	if err != nil {
		return nil, err
	}
	model := simulator.VPX()
	about := vpx.ServiceContent.About
	about.Version, about.ApiVersion, about.Build = "7.0.3", "7.0.3.0", "20990077"
	about.FullName = "VMware vCenter Server 7.0.3 build-20990077"
	model.ServiceContent.About = about
	model.Portgroup, model.Host, model.Datastore, model.Machine = 0, 0, 0, 0
	model.ClusterHost = len(site.Hosts)
	if err := model.Create(); err != nil {
		return nil, err
	}
	inv := &Inventory{
		file: file, hook: hook, rules: rules, book: book,
		service:  model.Service,
		dc:       simulator.Map.Any("Datacenter").(*simulator.Datacenter),
		hosts:    make(map[string]*simulator.HostSystem),
		machines: make(map[string]*Machine),
		networks: make(map[string]mo.Entity),
		stores:   make(map[string]mo.Entity),
	}
	inv.dc.Name = site.Datacenter
	cluster := simulator.Map.Any("ClusterComputeResource").(*simulator.ClusterComputeResource)
	cluster.Name = site.Cluster
	inv.pool = *cluster.ResourcePool
	for i, at := range cluster.Host {
		host := simulator.Map.Get(at).(*simulator.HostSystem)
		host.Name, host.Summary.Config.Name = site.Hosts[i], site.Hosts[i]
		inv.hosts[site.Hosts[i]] = host
	}
	inv.replaceManagers()
	_, err = inv.show(site)
	return inv, err
}

// replaceManagers puts our own objects in place of those of the simulator that can't do what the tests need.
func (inv *Inventory) replaceManagers() {
	content := simulator.Map.Get(ref{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content
	inv.history = newHistory(inv)
	simulator.Map.Put(inv.history)
	collector := new(Collector)
	collector.Self = content.PropertyCollector
	simulator.Map.Put(collector)
	authorization := &Authorization{
		AuthorizationManager: *simulator.Map.Get(*content.AuthorizationManager).(*simulator.AuthorizationManager),
		inv:                  inv,
	}
	simulator.Map.Put(authorization)
	searches := &Searches{
		SearchIndex: *simulator.Map.Get(*content.SearchIndex).(*simulator.SearchIndex),
		inv:         inv,
	}
	simulator.Map.Put(searches)
	clock := &Clock{inv: inv}
	clock.Self = clockRef
	simulator.Map.Put(clock)
}

// Refresh reads the site file again if it changed. Call it holding no object's lock.
func (inv *Inventory) Refresh() {
	site, news, err := inv.file.Latest()
	if err != nil {
		log.Printf("site file: %s", err)
	}
	if news {
		if _, err := inv.show(site); err != nil {
			log.Printf("site file: %s", err)
		}
	}
}

// Site returns what was read last.
func (inv *Inventory) Site() *Site {
	return inv.site.Load().(*Site)
}

// Machine returns a VM by its moref, or nil.
func (inv *Inventory) Machine(moref string) *Machine {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.machines[moref]
}

// MachineOf returns the VM that an object is or belongs to, or nil.
func (inv *Inventory) MachineOf(object ref) *Machine {
	switch found := simulator.Map.Get(object).(type) {
	case *Machine:
		return found
	case *Snapshot:
		return found.machine
	}
	return nil
}

// NextID returns a number that no object has yet.
func (inv *Inventory) NextID() int64 {
	return atomic.AddInt64(&inv.seq, 1)
}

func (inv *Inventory) show(site *Site) (*Site, error) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.site.Store(site)
	if site.InstanceUUID != "" {
		service := simulator.Map.Get(ref{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance)
		service.Content.About.InstanceUuid = site.InstanceUUID
	}
	for _, spec := range site.Datastores {
		inv.showDatastore(spec)
	}
	for _, spec := range site.Networks {
		inv.showNetwork(spec)
	}
	present := make(map[string]bool)
	for i := range site.VMs {
		spec := site.VMs[i]
		present[spec.Moref] = true
		if err := inv.showMachine(spec); err != nil {
			return site, fmt.Errorf("%s: %w", spec.Name, err)
		}
	}
	for moref, machine := range inv.machines {
		if !present[moref] {
			inv.leaveFolder(machine)
			simulator.Map.Remove(machine.Self)
			delete(inv.machines, moref)
		}
	}
	inv.listMachines()
	return site, nil
}

func (inv *Inventory) showMachine(spec VMSpec) error {
	folder, err := inv.folder(spec.Folder)
	if err != nil {
		return err
	}
	machine := inv.machines[spec.Moref]
	if machine == nil {
		machine = &Machine{inv: inv}
		machine.Self = ref{Type: "VirtualMachine", Value: spec.Moref}
		inv.machines[spec.Moref] = machine
	}
	simulator.Map.WithLock(machine.Self, func() { err = machine.show(spec, &Devices{inv: inv}) })
	if err != nil {
		return err
	}
	if machine.Parent == nil || *machine.Parent != folder.Self {
		inv.leaveFolder(machine)
		simulator.Map.WithLock(folder.Self, func() { folder.ChildEntity = append(folder.ChildEntity, machine.Self) })
		simulator.Map.PutEntity(folder, machine)
	}
	return nil
}

func (inv *Inventory) leaveFolder(machine *Machine) {
	if machine.Parent == nil {
		return
	}
	if old, ok := simulator.Map.Get(*machine.Parent).(*simulator.Folder); ok {
		simulator.Map.RemoveReference(old, &old.ChildEntity, machine.Self)
	}
}

// folder returns the folder at a path below the datacenter's vm folder, made where it is missing.
func (inv *Inventory) folder(path string) (*simulator.Folder, error) {
	at := simulator.Map.Get(inv.dc.VmFolder).(*simulator.Folder)
	for _, name := range strings.FieldsFunc(path, func(c rune) bool { return c == '/' }) {
		if found, ok := simulator.Map.FindByName(name, at.ChildEntity).(*simulator.Folder); ok {
			at = found
			continue
		}
		made := at.CreateFolder(ownContext(), &types.CreateFolder{This: at.Self, Name: name})
		if fault := made.Fault(); fault != nil {
			return nil, fmt.Errorf("folder %s: %s", name, fault.String)
		}
		at = simulator.Map.Get(made.(*methods.CreateFolderBody).Res.Returnval).(*simulator.Folder)
	}
	return at, nil
}

func (inv *Inventory) showDatastore(spec DatastoreSpec) {
	if inv.stores[spec.Name] != nil {
		return
	}
	store := new(mo.Datastore)
	store.Self = ref{Type: "Datastore", Value: fmt.Sprintf("datastore-%d", len(inv.stores)+1)}
	store.Name = spec.Name
	url := fmt.Sprintf("ds:///vmfs/volumes/%08x-00000000/", len(inv.stores)+1)
	store.Summary = types.DatastoreSummary{
		Datastore: &store.Self, Name: spec.Name, Url: url, Capacity: 1 << 44, FreeSpace: 1 << 43,
		Accessible: true, MultipleHostAccess: types.NewBool(true), Type: spec.Type, MaintenanceMode: "normal",
	}
	store.Info = &types.DatastoreInfo{Name: spec.Name, Url: url, FreeSpace: 1 << 43, MaxFileSize: 62 << 40}
	inv.stores[spec.Name] = store
	inv.place(inv.dc.DatastoreFolder, store, &inv.dc.Datastore)
}

func (inv *Inventory) showNetwork(spec NetworkSpec) {
	if inv.networks[spec.Name] != nil {
		return
	}
	var entity mo.Entity
	var network *mo.Network
	if spec.Key == "" {
		network = new(mo.Network)
		network.Self = ref{Type: "Network", Value: fmt.Sprintf("network-%d", len(inv.networks)+1)}
		entity = network
	} else {
		group := new(mo.DistributedVirtualPortgroup)
		group.Self = ref{Type: "DistributedVirtualPortgroup", Value: spec.Key}
		group.Key = spec.Key
		group.Config = types.DVPortgroupConfigInfo{Key: spec.Key, Name: spec.Name, Type: "earlyBinding"}
		network, entity = &group.Network, group
	}
	network.Name, network.ManagedEntity.Name = spec.Name, spec.Name
	network.Summary = &types.NetworkSummary{Network: &network.Self, Name: spec.Name, Accessible: true}
	inv.networks[spec.Name] = entity
	inv.place(inv.dc.NetworkFolder, entity, &inv.dc.Network)
}

func (inv *Inventory) place(at ref, entity mo.Entity, list *[]ref) {
	folder := simulator.Map.Get(at).(*simulator.Folder)
	simulator.Map.AppendReference(folder, &folder.ChildEntity, entity.Reference())
	simulator.Map.PutEntity(folder, entity)
	simulator.Map.AppendReference(inv.dc, list, entity.Reference())
}

// listMachines tells each host and the resource pool which VMs they have.
func (inv *Inventory) listMachines() {
	by := make(map[ref][]ref)
	for _, machine := range inv.machines {
		by[*machine.Runtime.Host] = append(by[*machine.Runtime.Host], machine.Self)
		by[inv.pool] = append(by[inv.pool], machine.Self)
	}
	for _, host := range inv.hosts {
		simulator.Map.WithLock(host.Self, func() { host.Vm = by[host.Self] })
	}
	if pool, ok := simulator.Map.Get(inv.pool).(*simulator.ResourcePool); ok {
		simulator.Map.WithLock(inv.pool, func() { pool.Vm = by[inv.pool] })
	}
}

// ownContext is for calls that the simulator makes to itself.
func ownContext() *simulator.Context {
	user := types.UserSession{Key: "simulator", UserName: "simulator", LoginTime: time.Now(), LastActiveTime: time.Now()}
	return &simulator.Context{
		Map:     simulator.Map,
		Session: &simulator.Session{UserSession: user, Registry: simulator.NewRegistry()},
	}
}
