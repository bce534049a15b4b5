"""What a guest's disks hold: tables, volumes, files, systems and what these need."""
