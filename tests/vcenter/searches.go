package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Searches is the simulator's search index, which also finds all VMs that have a UUID, and not only some one.
type Searches struct {
	simulator.SearchIndex

	inv *Inventory
}

// FindAllByUuid answers for VMs alone.
func (s *Searches) FindAllByUuid(req *types.FindAllByUuid) soap.HasFault {
	body := new(methods.FindAllByUuidBody)
	if !req.VmSearch {
		body.Fault_ = simulator.Fault("hosts are not searched here", new(types.NotSupported))
		return body
	}
	body.Res = new(types.FindAllByUuidResponse)
	s.inv.mu.Lock()
	defer s.inv.mu.Unlock()
	for _, machine := range s.inv.machines {
		uuid := machine.spec.BIOSUUID
		if req.InstanceUuid != nil && *req.InstanceUuid {
			uuid = machine.spec.InstanceUUID
		}
		if strings.EqualFold(uuid, req.Uuid) {
			body.Res.Returnval = append(body.Res.Returnval, machine.Self)
		}
	}
	return body
}
