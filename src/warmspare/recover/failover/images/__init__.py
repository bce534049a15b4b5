"""The image of an EC2 instance: of snapshots, or by VM Import."""
