"""What this host is asked: files, identity, services of the system."""
