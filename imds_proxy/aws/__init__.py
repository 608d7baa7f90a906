"""Sessions, clients and calls of AWS, and what its refusals mean."""
