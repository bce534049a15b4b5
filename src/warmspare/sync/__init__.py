"""The sender: from a source's extents to a published restore point."""
