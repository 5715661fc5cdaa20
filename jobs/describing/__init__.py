"""What `jobs.describe` reads off the code, a file a topic."""
