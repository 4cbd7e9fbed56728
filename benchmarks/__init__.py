"""How fast the migration is, beside what limits it: `python -m benchmarks.run --help`."""
