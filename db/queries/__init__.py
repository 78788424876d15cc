"""Queries: functions taking a Session."""
