"""Train, val and test: near-duplicates, split strategies, splits.csv and the data page."""
