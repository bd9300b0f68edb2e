"""Views of a stream: its newest picture, thumbnails of what is held, and the contents of its memory."""
