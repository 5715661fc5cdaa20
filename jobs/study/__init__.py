"""Measurements and studies, which are no user's command: python -m jobs.study.<name>."""
