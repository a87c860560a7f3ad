"""Export published networks: write, quantize, compare with PyTorch."""
