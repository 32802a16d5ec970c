"""What other processes read after an invalidation, on real servers: what is promised, and what was seen."""
