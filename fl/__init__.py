"""Federated learning, pure: models, data, training, evaluation, rounds, wire format."""
