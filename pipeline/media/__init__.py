"""Media: the sandboxed reader, through which alone untrusted files come in, and our own encoder."""
