"""Objects of a repository, in S3 or a directory; refuses to know what they mean."""
