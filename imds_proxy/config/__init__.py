"""The config: its keys, their values, and every mistake in it. No other room knows the keys of the file."""
