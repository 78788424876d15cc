"""Prefect tasks: each a thin verb on fl, privacy and db."""
