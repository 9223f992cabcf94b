"""The invented birds of the sample data: which species there are (species), and how one is drawn
(pose, parts, painter, scene)."""
