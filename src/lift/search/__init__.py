"""Items of images and texts, found again: an index on disk, and databases that exist already."""
