"""The soak: a steady load for long, and what memory, descriptors and latency do meanwhile."""
