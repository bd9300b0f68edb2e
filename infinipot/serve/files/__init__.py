"""`/v1/files`: videos and pictures that clients hand over once, and ask about by their ids."""
