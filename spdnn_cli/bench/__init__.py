"""Suites of runs: bench.yaml, each run in its own process."""
