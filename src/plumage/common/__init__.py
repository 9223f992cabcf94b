"""What every layer uses: paths, files, progress, processor cores, and DVC's own state."""
