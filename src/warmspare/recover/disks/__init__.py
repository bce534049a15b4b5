"""The disks of a replica or of a restore point, held still and open for programs to read."""
