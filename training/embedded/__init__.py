"""How the embedded model is trained and examined: from the world and the architecture that the package carries."""
