"""Other forms of a published network: how each is written, quantized, and compared with PyTorch."""
