"""The data set: photos checked, deduplicated and stored in a few memory-mapped files."""
