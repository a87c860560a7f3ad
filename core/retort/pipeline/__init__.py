"""Run the stages of a job and keep their results."""
