"""The distillation itself: student, teachers, and the objective between them."""
