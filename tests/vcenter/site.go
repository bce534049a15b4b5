package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Site is what the tests say that the site holds. They own it; the simulator only shows it.
type Site struct {
	Users             map[string]string `json:"users"` // none: any name and password will do
	Datacenter        string            `json:"datacenter"`
	Cluster           string            `json:"cluster"`
	Hosts             []string          `json:"hosts"`
	Datastores        []DatastoreSpec   `json:"datastores"`
	Networks          []NetworkSpec     `json:"networks"`
	VMs               []VMSpec          `json:"vms"`
	Events            []EventSpec       `json:"events"`
	EventsFrom        *time.Time        `json:"events_from"` // nothing older is remembered
	EventDatabase     EventDatabase     `json:"event_database"`
	ClockAheadS       float64           `json:"clock_ahead_s"` // vCenter's
	InstanceUUID      string            `json:"instance_uuid"` // vCenter's
	MissingPrivileges []string          `json:"missing_privileges"`
}

// DatastoreSpec is a datastore; Type is VMFS, NFS, NFS41 or vsan.
type DatastoreSpec struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// NetworkSpec is a port group; one with a Key belongs to a distributed switch.
type NetworkSpec struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// VMSpec is a virtual machine as it is now, and the disks of its snapshots.
type VMSpec struct {
	Moref               string                             `json:"moref"`
	Name                string                             `json:"name"`
	Folder              string                             `json:"folder"` // below the datacenter's vm folder, "a/b"
	InstanceUUID        string                             `json:"instance_uuid"`
	BIOSUUID            string                             `json:"bios_uuid"`
	Host                string                             `json:"host"`
	Power               string                             `json:"power"` // poweredOn, poweredOff, suspended
	Firmware            string                             `json:"firmware"`
	SecureBoot          bool                               `json:"secure_boot"`
	CPUs                int32                              `json:"cpus"`
	CoresPerSocket      int32                              `json:"cores_per_socket"`
	MemoryMiB           int32                              `json:"memory_mib"`
	GuestID             string                             `json:"guest_id"`
	GuestName           string                             `json:"guest_name"`
	Version             string                             `json:"version"` // vmx-19
	Annotation          string                             `json:"annotation"`
	Template            bool                               `json:"template"`
	ToolsStatus         string                             `json:"tools_status"`
	ChangeTracking      bool                               `json:"change_tracking"`
	ConsolidationNeeded bool                               `json:"consolidation_needed"`
	Tags                []string                           `json:"tags"` // "category/name"
	NICs                []NICSpec                          `json:"nics"`
	Disks               []DiskSpec                         `json:"disks"`
	Snapshots           map[string]map[string]SnapshotDisk `json:"snapshots"` // moref of snapshot -> disk key
}

// NICSpec is a network card.
type NICSpec struct {
	Key       int32  `json:"key"`
	MAC       string `json:"mac"`
	Network   string `json:"network"`
	Type      string `json:"type"` // vmxnet3, e1000, e1000e
	Connected bool   `json:"connected"`
}

// DiskSpec is a virtual disk as the running VM has it.
type DiskSpec struct {
	Key        int32    `json:"key"`
	Label      string   `json:"label"`
	Controller string   `json:"controller"` // scsi0, nvme0, sata0, ide0
	Unit       int32    `json:"unit"`
	Capacity   int64    `json:"capacity_bytes"`
	Path       string   `json:"path"`    // "[ds] folder/file.vmdk"
	Parents    []string `json:"parents"` // the files that Path is a delta of, nearest first
	UUID       string   `json:"uuid"`
	Mode       string   `json:"mode"`
	Thin       bool     `json:"thin"`
	RDM        string   `json:"rdm"` // "", physical, virtual
	Sharing    string   `json:"sharing"`
	ChangeID   string   `json:"change_id"`
}

// SnapshotDisk is where a snapshot finds a disk, and the change ID that it had then.
type SnapshotDisk struct {
	Path     string   `json:"path"`
	Parents  []string `json:"parents"`
	ChangeID string   `json:"change_id"`
	Capacity int64    `json:"capacity_bytes"`
}

// EventSpec is an entry of vCenter's event history.
type EventSpec struct {
	Serial  int64     `json:"serial"` // what the tests know it by
	Type    string    `json:"type"`   // a class of the API, VmFailoverFailed for example
	Time    time.Time `json:"time"`
	VM      string    `json:"vm"` // moref
	Host    string    `json:"host"`
	Message string    `json:"message"`
	User    string    `json:"user"`
	Hidden  bool      `json:"hidden"` // it has a key, and can't be queried yet
}

// EventDatabase is where events lie. With another ID it is another one, which has those up to a key and counts on from
// Next.
type EventDatabase struct {
	ID   string `json:"id"`
	Keep int32  `json:"keep"`
	Next int32  `json:"next"`
}

// SiteFile is the file that holds the site, read again whenever it was replaced.
type SiteFile struct {
	path string
	mu   sync.Mutex
	seen [3]int64
	site *Site
}

// Latest returns the site as the file has it now, and whether that is news.
func (f *SiteFile) Latest() (*Site, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return f.site, false, err
	}
	seen := [3]int64{info.ModTime().UnixNano(), info.Size(), int64(info.Sys().(*syscall.Stat_t).Ino)}
	if f.site != nil && seen == f.seen {
		return f.site, false, nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return f.site, false, err
	}
	site := new(Site)
	if err := json.Unmarshal(data, site); err != nil {
		return f.site, false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.site, f.seen = site, seen
	return site, true, nil
}
