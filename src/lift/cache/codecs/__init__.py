"""One file a number format of stored rows."""
