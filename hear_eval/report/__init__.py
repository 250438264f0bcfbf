"""Scores side by side with the leaderboard of HEAR: tables, a page, pictures."""
