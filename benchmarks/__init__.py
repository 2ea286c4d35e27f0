"""Measure training, sampling, embedding and start-up beside other libraries; see ``benchmarks/README.md``."""
