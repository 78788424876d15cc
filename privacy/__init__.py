"""Privacy, pure: plans, accounting, noise, secure aggregation."""
