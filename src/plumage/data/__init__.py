"""Photos: their sources, the data set's files, its splits, and the transforms to model inputs."""
