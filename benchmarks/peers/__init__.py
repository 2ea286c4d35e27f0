"""One module per measured library; each runs in an environment of its own: ``python -m benchmarks.peers.NAME``."""
