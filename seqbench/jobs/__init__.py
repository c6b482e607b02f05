"""What is done and what is kept of it: jobs, the pool that runs them, their records and the store of these. Knows no task."""
