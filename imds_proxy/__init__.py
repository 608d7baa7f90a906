"""imds-proxy: an EC2 instance profile for any machine."""

__version__ = "0.1.0"
