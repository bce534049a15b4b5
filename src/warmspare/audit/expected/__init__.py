"""What a disk must hold at a restore point: hashes, and which blocks of it an audit looks at; shared by all audits."""
