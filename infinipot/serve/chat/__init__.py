"""`/v1/chat/completions`: of a stream, of a file, of frames."""
