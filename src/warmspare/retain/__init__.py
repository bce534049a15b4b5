"""Which restore points are kept, and why; what stands for those that go; what is not needed any more."""
