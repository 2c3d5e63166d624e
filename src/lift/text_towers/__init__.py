"""One file a network from texts to vectors, trained with the images."""
