"""A live demonstration against an AWS double."""
