"""Speed, as ratios to the algorithm of the original in the same run."""
