"""Streams as clients see them: named, owned, admitted by their bytes, saved and restored."""
