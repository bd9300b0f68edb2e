"""What can be seen of a stream: its newest picture, small ones of what is held, and what is held."""
