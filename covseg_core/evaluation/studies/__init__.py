"""Questions that need several trainings: by how much a split by slice flatters, and how models do on other sources."""
