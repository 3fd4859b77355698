"""The fleet's autoscaler: replicas between a server's bounds, by the published algorithm of Kubernetes' HPA."""

__version__ = "0.1.0"
