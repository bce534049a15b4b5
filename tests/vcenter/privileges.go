package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// privilegeOf names the privilege that a method requires, from the API's reference.
var privilegeOf = map[string]string{
	"CreateSnapshot_Task":     "VirtualMachine.State.CreateSnapshot",
	"RemoveSnapshot_Task":     "VirtualMachine.State.RemoveSnapshot",
	"RemoveAllSnapshots_Task": "VirtualMachine.State.RemoveSnapshot",
	"ConsolidateVMDisks_Task": "VirtualMachine.State.RemoveSnapshot",
	"RevertToSnapshot_Task":   "VirtualMachine.State.RevertToSnapshot",
	"ReconfigVM_Task":         "VirtualMachine.Config.ChangeTracking",
	"QueryChangedDiskAreas":   "VirtualMachine.Provisioning.DiskRandomRead",
	"QueryEvents":             "System.View",
}

// Authorization tells which privileges the site grants: all but those that the site file calls missing.
type Authorization struct {
	simulator.AuthorizationManager

	inv *Inventory
}

// Missing tells whether a privilege is one that nobody has.
func (inv *Inventory) Missing(privilege string) bool {
	return containsString(inv.Site().MissingPrivileges, privilege)
}

func (a *Authorization) availability(ids []string) []types.PrivilegeAvailability {
	var list []types.PrivilegeAvailability
	for _, id := range ids {
		list = append(list, types.PrivilegeAvailability{PrivId: id, IsGranted: !a.inv.Missing(id)})
	}
	return list
}

func (a *Authorization) onEntities(entities []ref, ids []string) []types.EntityPrivilege {
	var list []types.EntityPrivilege
	for _, entity := range entities {
		list = append(list, types.EntityPrivilege{Entity: entity, PrivAvailability: a.availability(ids)})
	}
	return list
}

// HasPrivilegeOnEntities is asked about a session.
func (a *Authorization) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	return &methods.HasPrivilegeOnEntitiesBody{
		Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: a.onEntities(req.Entity, req.PrivId)},
	}
}

// HasPrivilegeOnEntity is asked about a session and one object.
func (a *Authorization) HasPrivilegeOnEntity(req *types.HasPrivilegeOnEntity) soap.HasFault {
	var list []bool
	for _, id := range req.PrivId {
		list = append(list, !a.inv.Missing(id))
	}
	return &HasPrivilegeOnEntityBody{Res: &HasPrivilegeOnEntityResponse{Returnval: list}}
}

// HasPrivilegeOnEntityResponse is that of the API. govmomi's leaves every false out.
type HasPrivilegeOnEntityResponse struct {
	Returnval []bool `xml:"returnval"`
}

// HasPrivilegeOnEntityBody holds it.
type HasPrivilegeOnEntityBody struct {
	Res *HasPrivilegeOnEntityResponse `xml:"HasPrivilegeOnEntityResponse"`
}

// Fault is none, ever.
func (b *HasPrivilegeOnEntityBody) Fault() *soap.Fault { return nil }

// HasUserPrivilegeOnEntities is asked about a user.
func (a *Authorization) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	return &methods.HasUserPrivilegeOnEntitiesBody{
		Res: &types.HasUserPrivilegeOnEntitiesResponse{Returnval: a.onEntities(req.Entities, req.PrivId)},
	}
}

// FetchUserPrivilegeOnEntities lists what a user may do.
func (a *Authorization) FetchUserPrivilegeOnEntities(req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	inner := a.AuthorizationManager.FetchUserPrivilegeOnEntities(req).(*methods.FetchUserPrivilegeOnEntitiesBody)
	for i := range inner.Res.Returnval {
		var granted []string
		for _, id := range inner.Res.Returnval[i].Privileges {
			if !a.inv.Missing(id) {
				granted = append(granted, id)
			}
		}
		inner.Res.Returnval[i].Privileges = granted
	}
	return inner
}
