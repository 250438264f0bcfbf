"""Benchmarks of speed, as ratios to the original's algorithm in the same run."""
