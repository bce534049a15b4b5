"""From restore points to running instances: EBS snapshots, images, rehearsals."""
