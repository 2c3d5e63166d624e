"""lift: put images into a text-embedding space that never moves."""

__version__ = "0.1.0"
