"""Cameras that the server watches for its clients: by its rules, and without end."""
