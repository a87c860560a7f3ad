"""Build the report: figures, charts, images, page."""
