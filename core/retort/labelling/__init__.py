"""What the stages around pseudo-labels do, one module each."""
