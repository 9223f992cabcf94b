"""Training: recipes, the loop, optimiser and schedule."""
