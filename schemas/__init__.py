"""What things are: columns, clips, shards, the ledger. Imports only the standard library, numpy and pyarrow."""
