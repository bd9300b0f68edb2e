"""Training of the models that the project uses; not part of the package."""
