"""Engines, which watch videos in this process or in a pool of workers. A new kind is one file."""
