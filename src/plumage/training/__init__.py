"""Training: recipes, the training loop, the optimizer and its schedule, checkpoints."""
