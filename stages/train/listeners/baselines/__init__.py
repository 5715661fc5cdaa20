"""Listeners without weights, the baselines of the papers: one file each."""
