"""The data set on disk: where it stands, its lock, who writes its shards, who reads them, its card and its check."""
