"""Which restore points are kept, and why: a policy, and the times that it may go by."""
