"""Files that the daemon keeps fresh, for programs that read nothing else."""
