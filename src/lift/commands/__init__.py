"""Every command as a typed function; each imports what it needs when it is called."""
