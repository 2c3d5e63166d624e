"""One file a database that text vectors lie in already; images are put beside them."""
