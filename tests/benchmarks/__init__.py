"""The benchmark's own sums: what it reckons from what it measured, and what it says and reads."""
