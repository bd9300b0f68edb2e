"""Where the watching is done: in this process, or in a pool of workers. A new kind is one file."""
