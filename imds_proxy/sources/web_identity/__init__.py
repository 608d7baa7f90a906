"""Credentials for an OpenID Connect token."""
