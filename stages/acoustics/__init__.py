"""Acoustic feature sets: one file a preset of the stage ``acoustic``."""
