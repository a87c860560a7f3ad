"""Review pseudo-labels: images, decisions, metrics, formats."""
