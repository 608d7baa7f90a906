"""Service accounts of Kubernetes: their tokens and the cluster's keys."""
