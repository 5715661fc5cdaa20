"""The attached trainer: published listener models, one loop, one reader of shards. Torch only: no Ray, no media."""
