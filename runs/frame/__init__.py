"""What studies share: runs that are taken in turn, sets, text spaces, records, pages."""
