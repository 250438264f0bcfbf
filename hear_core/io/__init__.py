"""Files: atomic writes, locks, journals, tables, names of files, prefetching."""
