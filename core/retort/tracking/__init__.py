"""Track runs in TensorBoard, Weights & Biases and MLflow, in separate processes."""
