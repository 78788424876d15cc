"""The gateway: Prefect's API for hospitals, each within its own pool, deployment and runs."""
