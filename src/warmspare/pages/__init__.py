"""Pages for a browser, and the maps of disks on them: one look for all that this program draws; knows no subject."""
