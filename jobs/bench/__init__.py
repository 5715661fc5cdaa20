"""Measuring the project beside the published programs: python -m jobs.bench."""
