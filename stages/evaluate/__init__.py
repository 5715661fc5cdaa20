"""Metrics of listening heads, one module a family, and the renderer that shows them: what comes after a prediction."""
