"""Published networks whose outputs metrics compare; weights are the user's (``manifests/weights.toml``).

Every module has a ``NETWORK`` whose parameters carry the names of the published checkpoint, what of that file begins
with ``UNUSED`` left out, and ``prepare`` for its input.
"""
