"""How things flow: stage contract, plan, run, store, ledger, manifest, config, weights, media, clock."""
