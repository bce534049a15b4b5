"""An audit of a replica: judged block by block, named, repaired from the chain."""
