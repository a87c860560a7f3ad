"""Whether the distillation works: the liveness contract, the ECG, and the rules that judge it."""
