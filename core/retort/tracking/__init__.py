"""Trackers: TensorBoard, Weights & Biases and MLflow are told what a run says, by processes that cannot harm it."""
