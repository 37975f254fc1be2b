"""The archive: receives, keeps, finds and hands on, and loses nothing that it acknowledged."""
