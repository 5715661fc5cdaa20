"""Published networks whose outputs metrics compare; weights are the user's (``manifests/weights.toml``).

Every module has a network whose parameters carry the names of the published checkpoint, ``load`` and ``prepare``.
"""
