"""The repository as its users see it: restore points in chains, manifests and tables fetched and verified."""
