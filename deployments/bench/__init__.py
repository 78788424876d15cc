"""Benchmarks: each writes ``.fedmed/bench/NAME.json`` and prints the same as a table."""
