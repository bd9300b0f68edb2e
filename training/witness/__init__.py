"""How the witness is trained: in the repository, not in the wheel."""
