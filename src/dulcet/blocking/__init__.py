"""The blocking face: associations in the caller's own thread."""
