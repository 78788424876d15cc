"""The local stack: PostgreSQL, Prefect, MLflow, the API, the coordinator, on one machine."""
