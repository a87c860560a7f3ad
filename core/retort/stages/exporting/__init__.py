"""The parts of the export stage: what is shared by all forms, how each is made, and how it is kept in its budget."""
