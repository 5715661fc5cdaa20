"""Metrics of listening heads, a file a family: arrays in, a float out, every definition with its source."""
