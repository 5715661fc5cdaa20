"""The listener models: one file each; the file's name is the listener's."""
