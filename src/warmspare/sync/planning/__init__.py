"""What a sync must read: changed extents, marks of audits, the rolling audit's share."""
