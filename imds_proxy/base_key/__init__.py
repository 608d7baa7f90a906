"""The IAM user's key that a host starts from rotates itself: made, proven, written, and only then the old one ended.

"Update access keys" of the IAM user guide. What holds at every point of a crash: one working key is in the shared
credentials file, and the next run finishes the work. No key is deactivated or deleted unless this host made or wrote
about it (`record.py`), and none that the file holds at that moment.
"""
