"""The metrics of listening heads: one module a family, arrays in, floats out; nothing here opens a file of data."""
