"""The invented birds of the sample data: the table of species, and drawing one (pose, parts, painter, scene, canvas)."""
