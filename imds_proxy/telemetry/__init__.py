"""What the daemon says of itself: log lines and metrics. Never a secret."""
