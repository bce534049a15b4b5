"""What says which restore points are left: of those that were let go, and of those that are held."""
