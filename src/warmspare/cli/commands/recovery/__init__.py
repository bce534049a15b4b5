"""The commands of staging, drills, failover and the way back."""
