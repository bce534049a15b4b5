"""Restore points of a VM as retention left them: which were dropped, what stands for them, and the way through."""
