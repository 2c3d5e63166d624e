"""One file a network from pixels to a raw vector."""
