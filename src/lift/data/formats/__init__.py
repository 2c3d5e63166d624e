"""One file a layout of pairs."""
