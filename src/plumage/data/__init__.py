"""Photos in: sources, the data set's files, its split, and the views that a model sees."""
