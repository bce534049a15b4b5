"""S3 servers, real and bad ones, and what stands before them."""
