"""Real faults: real servers killed, frozen and misused under load, and what the callers of a cache see of it."""
