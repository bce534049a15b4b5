"""Disk images with real file systems, real changes to them, and what others read from them; also for bench/."""
