"""The page at `/`: files as they are, without a build step and without anything from elsewhere."""
