"""What a training step sees: images, in which order, and how they are changed."""
