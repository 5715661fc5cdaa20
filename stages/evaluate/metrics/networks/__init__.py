"""Published networks whose outputs metrics compare; weights are the user's (``manifests/weights.toml``).

Every module has a ``NETWORK`` whose parameters carry the names of the published checkpoint, what of that file begins
with ``UNUSED`` left out, and ``prepare``, which makes its input of RGB frames (frame, 3, height,
width) in 0 to 255.
"""
