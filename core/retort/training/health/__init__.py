"""Monitor a distillation: liveness checks, health metrics, rules."""
