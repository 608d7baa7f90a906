"""The control plane: what Prometheus, probes and people ask. No secret, ever."""
