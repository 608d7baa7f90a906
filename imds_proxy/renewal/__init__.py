"""Keeping each role's credentials fresh."""
