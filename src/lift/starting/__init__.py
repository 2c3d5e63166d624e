"""`lift start`: from a folder of pictures to a search, with what the machine can afford."""
