"""The HTTP API: OAuth, hospitals, models, trainings, metrics, audit, exchange."""
