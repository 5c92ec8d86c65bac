"""Concept maps: drawn, queried and edited by region, and judged against masks."""
