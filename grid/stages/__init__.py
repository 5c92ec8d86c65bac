"""Stages as Ray Data pipelines."""
