"""Reads the results store and the artifacts: tables, comparisons, reports. Launches nothing."""
