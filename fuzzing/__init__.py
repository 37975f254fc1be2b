"""Coverage-guided fuzzing with atheris: `make fuzz SECONDS=60`; every crash found becomes a named test."""
