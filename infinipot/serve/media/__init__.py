"""Media from clients: which addresses may be fetched, and decoding in processes of their own, with limits."""
