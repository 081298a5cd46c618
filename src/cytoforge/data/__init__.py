"""The only reader and writer of data: images, datasets, movies, run folders and the weights of feature networks."""
