"""EBS's and EC2's interfaces, as stand-ins that check what they are asked."""
