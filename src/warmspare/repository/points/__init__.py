"""Which restore points of a VM somebody means: by date, by time, the newest."""
