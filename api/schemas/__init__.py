"""What the API takes and returns, by subject, beyond the values of ``fl`` and ``privacy``."""
