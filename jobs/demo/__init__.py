"""The demo's input: a synthetic conversation between four looks of one public-domain face, and the truth about it."""
