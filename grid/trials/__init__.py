"""Trials: one without Ray, many under Ray Tune, and what is recorded of them."""
