"""Credentials from an HTTP service."""
