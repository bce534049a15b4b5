"""What the installers and images of each distribution lay out."""
