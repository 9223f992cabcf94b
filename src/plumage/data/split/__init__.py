"""Train, val and test: near-duplicates, split strategies, splits.csv, the data page and export."""
