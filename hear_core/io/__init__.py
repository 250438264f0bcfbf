"""Files: atomic writes, locks, journals, prefetching."""
