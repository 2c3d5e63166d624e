"""The server: search, embeddings and the page, bounded on every side."""
