package main

import (
	"fmt"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// maxExtents is how many changed areas vSphere tells in one answer at most.
const maxExtents = 2000

// QueryChangedDiskAreas answers what changed on a disk between a change ID and a snapshot, one page a call.
func (m *Machine) QueryChangedDiskAreas(ctx *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := new(methods.QueryChangedDiskAreasBody)
	answer, fault, message := m.changedAreas(req)
	if fault != nil {
		body.Fault_ = simulator.Fault(message, fault)
		return body
	}
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: *answer}
	return body
}

func (m *Machine) changedAreas(
	req *types.QueryChangedDiskAreas,
) (*types.DiskChangeInfo, types.BaseMethodFault, string) {
	wrong := func(what string) (*types.DiskChangeInfo, types.BaseMethodFault, string) {
		return nil, &types.InvalidArgument{InvalidProperty: what}, "A specified parameter was not correct: " + what
	}
	if req.Snapshot == nil {
		return wrong("snapshot")
	}
	snapshot, ok := simulator.Map.Get(*req.Snapshot).(*Snapshot)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: *req.Snapshot}, fmt.Sprintf(
			"The object 'vim.vm.Snapshot:%s' has already been deleted or has not been completely created", req.Snapshot.Value)
	}
	if snapshot.machine != m {
		return wrong("snapshot")
	}
	var disk *DiskSpec
	for i := range snapshot.spec.Disks {
		if snapshot.spec.Disks[i].Key == req.DeviceKey {
			disk = &snapshot.spec.Disks[i]
		}
	}
	if disk == nil {
		return wrong("deviceKey")
	}
	if req.StartOffset < 0 || req.StartOffset >= disk.Capacity {
		return wrong("startOffset")
	}
	if req.ChangeId == "" {
		return wrong("changeId")
	}
	rule := m.inv.rules.Take(Occasion{
		Method: "QueryChangedDiskAreas", Stage: "page", VM: m.Self.Value, Args: arguments(req),
	})
	answer, err := m.inv.hook.Tell(Told{
		Event: "changed-areas", VM: m.Self.Value, Snapshot: snapshot.Self.Value, Disk: strconv.Itoa(int(disk.Key)),
		ChangeID: req.ChangeId, Start: req.StartOffset, Limit: maxExtents + 1,
	})
	if err != nil {
		return nil, &types.SystemError{Reason: err.Error()}, err.Error()
	}
	if answer.Fault != nil {
		return nil, answer.Fault.Build(m.Self), answer.Fault.Message
	}
	return page(answer.Extents, req.StartOffset, disk.Capacity, rule), nil, ""
}

// page makes one answer of the extents at and after start; a rule makes it one of the odd answers seen in the field.
func page(extents [][2]int64, start, capacity int64, rule *Rule) *types.DiskChangeInfo {
	most := maxExtents
	if rule != nil && rule.Extents > 0 {
		most = rule.Extents
	}
	info := &types.DiskChangeInfo{StartOffset: start, Length: capacity - start}
	for i, extent := range extents {
		if i == most {
			last := info.ChangedArea[len(info.ChangedArea)-1]
			info.Length = last.Start + last.Length - start
			break
		}
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: extent[0], Length: extent[1]})
	}
	if rule == nil {
		return info
	}
	switch rule.Page {
	case "empty": // advances up to the first changed area, or a little, and says nothing changed there: true, and valid
		length := info.Length
		if len(extents) > 0 && extents[0][0] > start {
			length = extents[0][0] - start
		} else if len(extents) > 0 {
			return info // nothing before the first changed area: no such page here
		}
		info.Length, info.ChangedArea = length, nil
	case "wrong-start": // echoes another offset than the one asked for
		info.StartOffset += 512
	case "short": // covers less than the disk and then stops advancing
		info.Length, info.ChangedArea = 0, nil
	case "long": // covers more than the disk has
		info.Length += 1 << 20
	case "outside": // an area beyond what the answer covers
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: start + info.Length, Length: 1 << 20})
	case "unordered":
		for i, j := 0, len(info.ChangedArea)-1; i < j; i, j = i+1, j-1 {
			info.ChangedArea[i], info.ChangedArea[j] = info.ChangedArea[j], info.ChangedArea[i]
		}
	}
	return info
}
