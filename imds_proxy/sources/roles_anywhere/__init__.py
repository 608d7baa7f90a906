"""Credentials from IAM Roles Anywhere, by an X.509 certificate."""
