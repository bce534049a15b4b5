"""vCenter's APIs: one login, its calls, what its answers mean; knows nothing of VMs."""
