"""Retention: which restore points of a VM stay, what stands for those that go, and the space that comes back."""
