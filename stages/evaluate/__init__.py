"""Metrics of listening heads and the renderer that shows them: what comes after a prediction."""
