"""`/v1/realtime`: OpenAI's realtime events, with pictures and text in, and text out."""
