"""NVIDIA VSS's paths for live streams, as aliases of this server's own."""
