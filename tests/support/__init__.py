"""What several tests need: small models, streams of theirs, files, servers, and what is right from elsewhere."""
