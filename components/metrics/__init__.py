"""Metrics: functions of arrays that return plain numbers."""
