"""One file a text encoder."""
