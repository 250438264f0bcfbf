"""The benchmark side: HEAR tasks on disk, and the tools of HEAR itself."""
