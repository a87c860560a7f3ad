"""Pseudo-labels as people look at them: pictures with boxes, what is decided about them, and what that says."""
