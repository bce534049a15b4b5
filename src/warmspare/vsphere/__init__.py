"""The control plane: vCenter's sessions, inventory, snapshots and change tracking; reads no disk itself."""
