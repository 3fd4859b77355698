"""The way to Docker: a proxy that permits what an autoscaler needs of one fleet, and nothing else."""
