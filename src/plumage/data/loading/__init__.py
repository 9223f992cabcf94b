"""From stored photos to batches of model inputs."""
