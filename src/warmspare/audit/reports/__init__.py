"""What audits say: findings, reports and their chain, a page for a browser; shared by all audits."""
