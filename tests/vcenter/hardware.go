package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Devices turns the site file's words about hardware into the API's. What it returns is new each time, so that a
// snapshot's config never shares anything with the VM's.
type Devices struct {
	inv *Inventory
}

var controllerKeys = map[string]int32{"ide": 200, "scsi": 1000, "sata": 15000, "nvme": 31000}

func (d *Devices) config(spec VMSpec) (*types.VirtualMachineConfigInfo, error) {
	devices, err := d.list(spec)
	if err != nil {
		return nil, err
	}
	folder := spec.Name
	store := ""
	if len(spec.Disks) > 0 {
		store, folder = splitPath(spec.Disks[0].Path)
	}
	dir := fmt.Sprintf("[%s] %s", store, folder)
	return &types.VirtualMachineConfigInfo{
		ChangeVersion: time.Now().UTC().Format(time.RFC3339Nano),
		Modified:      time.Now().UTC(),
		Name:          spec.Name,
		GuestId:       spec.GuestID,
		GuestFullName: spec.GuestName,
		Version:       spec.Version,
		Uuid:          spec.BIOSUUID,
		InstanceUuid:  spec.InstanceUUID,
		Annotation:    spec.Annotation,
		Template:      spec.Template,
		Files: types.VirtualMachineFileInfo{
			VmPathName: dir + "/" + folder + ".vmx", SnapshotDirectory: dir, SuspendDirectory: dir, LogDirectory: dir,
		},
		Tools:       &types.ToolsConfigInfo{},
		Firmware:    spec.Firmware,
		BootOptions: &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(spec.SecureBoot)},
		Hardware: types.VirtualHardware{
			NumCPU: spec.CPUs, NumCoresPerSocket: spec.CoresPerSocket, MemoryMB: spec.MemoryMiB, Device: devices,
		},
		ChangeTrackingEnabled: types.NewBool(spec.ChangeTracking),
	}, nil
}

func (d *Devices) list(spec VMSpec) ([]types.BaseVirtualDevice, error) {
	var devices []types.BaseVirtualDevice
	controllers := make(map[string]types.BaseVirtualDevice)
	for _, disk := range spec.Disks {
		if controllers[disk.Controller] == nil {
			controller, err := newController(disk.Controller)
			if err != nil {
				return nil, err
			}
			controllers[disk.Controller] = controller
		}
		owner := controllers[disk.Controller].(types.BaseVirtualController).GetVirtualController()
		owner.Device = append(owner.Device, disk.Key)
		devices = append(devices, d.disk(disk, owner.Key))
	}
	for _, nic := range spec.NICs {
		device, err := d.nic(nic)
		if err != nil {
			return nil, err
		}
		devices = append(devices, device)
	}
	var first []types.BaseVirtualDevice
	for _, controller := range controllers {
		first = append(first, controller)
	}
	sort.Slice(first, func(i, j int) bool { return first[i].GetVirtualDevice().Key < first[j].GetVirtualDevice().Key })
	return append(first, devices...), nil
}

func newController(name string) (types.BaseVirtualDevice, error) {
	kind := strings.TrimRight(name, "0123456789")
	base, known := controllerKeys[kind]
	bus, err := strconv.Atoi(strings.TrimPrefix(name, kind))
	if !known || err != nil {
		return nil, fmt.Errorf("unknown controller %q", name)
	}
	shared := types.VirtualController{
		VirtualDevice: types.VirtualDevice{
			Key: base + int32(bus), DeviceInfo: &types.Description{Label: name, Summary: name},
		},
		BusNumber: int32(bus),
	}
	switch kind {
	case "ide":
		return &types.VirtualIDEController{VirtualController: shared}, nil
	case "sata":
		sata := types.VirtualSATAController{VirtualController: shared}
		return &types.VirtualAHCIController{VirtualSATAController: sata}, nil
	case "nvme":
		return &types.VirtualNVMEController{VirtualController: shared}, nil
	}
	scsi := types.VirtualSCSIController{VirtualController: shared, SharedBus: "noSharing", ScsiCtlrUnitNumber: 7}
	return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi}, nil
}

func (d *Devices) disk(spec DiskSpec, controller int32) *types.VirtualDisk {
	unit := spec.Unit
	return &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key:           spec.Key,
			DeviceInfo:    &types.Description{Label: spec.Label, Summary: fmt.Sprintf("%d KB", spec.Capacity>>10)},
			Backing:       d.backing(spec),
			ControllerKey: controller,
			UnitNumber:    &unit,
		},
		CapacityInKB:    spec.Capacity >> 10,
		CapacityInBytes: spec.Capacity,
		DiskObjectId:    fmt.Sprintf("1-%d", spec.Key),
	}
}

func (d *Devices) backing(spec DiskSpec) types.BaseVirtualDeviceBackingInfo {
	if spec.RDM != "" {
		return &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: d.file(spec.Path),
			LunUuid:                      "0200000000" + strings.ReplaceAll(spec.UUID, "-", ""),
			DeviceName:                   "vml.0200000000" + strings.ReplaceAll(spec.UUID, "-", ""),
			CompatibilityMode:            spec.RDM + "Mode",
			DiskMode:                     spec.Mode,
			Uuid:                         spec.UUID,
			ChangeId:                     spec.ChangeID,
			Sharing:                      spec.Sharing,
		}
	}
	return d.flat(spec, spec.Path, spec.Parents)
}

func (d *Devices) flat(spec DiskSpec, path string, parents []string) *types.VirtualDiskFlatVer2BackingInfo {
	backing := &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: d.file(path),
		DiskMode:                     spec.Mode,
		ThinProvisioned:              types.NewBool(spec.Thin),
		Uuid:                         spec.UUID,
		ChangeId:                     spec.ChangeID,
		Sharing:                      spec.Sharing,
	}
	if len(parents) > 0 {
		older := spec
		older.ChangeID = ""
		backing.Parent = d.flat(older, parents[0], parents[1:])
	}
	return backing
}

func (d *Devices) file(path string) types.VirtualDeviceFileBackingInfo {
	name, _ := splitPath(path)
	info := types.VirtualDeviceFileBackingInfo{FileName: path}
	if store := d.inv.stores[name]; store != nil {
		at := store.Reference()
		info.Datastore = &at
	}
	return info
}

func (d *Devices) nic(spec NICSpec) (types.BaseVirtualDevice, error) {
	card := types.VirtualEthernetCard{
		VirtualDevice: types.VirtualDevice{
			Key:         spec.Key,
			DeviceInfo:  &types.Description{Label: fmt.Sprintf("Network adapter %d", spec.Key-3999), Summary: spec.Network},
			Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: spec.Connected},
		},
		AddressType: "assigned",
		MacAddress:  spec.MAC,
	}
	network := d.inv.networks[spec.Network]
	if network == nil {
		return nil, fmt.Errorf("unknown network %q", spec.Network)
	}
	at := network.Reference()
	if at.Type == "Network" {
		card.Backing = &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: spec.Network},
			Network:                        &at,
		}
	} else {
		port := types.DistributedVirtualSwitchPortConnection{SwitchUuid: "50 1e 9c 0c", PortgroupKey: at.Value}
		card.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: port}
	}
	switch spec.Type {
	case "vmxnet3":
		return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: card}}, nil
	case "e1000":
		return &types.VirtualE1000{VirtualEthernetCard: card}, nil
	case "e1000e":
		return &types.VirtualE1000e{VirtualEthernetCard: card}, nil
	}
	return nil, fmt.Errorf("unknown network card %q", spec.Type)
}

// splitPath returns the datastore and the folder of "[datastore] folder/file".
func splitPath(path string) (store, folder string) {
	if end := strings.Index(path, "] "); strings.HasPrefix(path, "[") && end > 0 {
		store, path = path[1:end], path[end+2:]
	}
	if slash := strings.LastIndex(path, "/"); slash >= 0 {
		folder = path[:slash]
	}
	return store, folder
}
