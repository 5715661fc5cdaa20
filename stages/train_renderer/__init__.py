"""Training of PIRenderer from a data set's shards; it draws on `stages.train` and `stages.evaluate`, they not on it."""
