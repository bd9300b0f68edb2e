"""Where a run's videos are watched: in this process, or by a pool of workers."""
