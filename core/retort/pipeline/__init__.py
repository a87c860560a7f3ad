"""What carries a job from stage to stage."""
