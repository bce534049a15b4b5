"""Objects in a bucket of Amazon's S3 or a compatible server's: requests, what they mean, and what is on the wire."""
