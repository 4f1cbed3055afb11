"""What a change of the fleet costs, measured. ``python -m benchmarks``; see docs/benchmarks.md."""
