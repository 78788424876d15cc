"""Routes, thin."""
