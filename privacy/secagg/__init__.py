"""Secure aggregation: sums of vectors of which nobody sees a single one."""
