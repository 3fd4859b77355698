"""What ``make bench-gateway`` runs: the gateway beside proxies and other gateways, on one canned upstream.

``python -m bench`` (with ``services/gateway`` on the path) measures and writes ``docs/performance.md``;
``python -m bench.candidates`` measures the parts that the data path could have been made of.
"""
