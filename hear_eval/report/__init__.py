"""Reports of scores beside the leaderboard of HEAR: tables, a web page, pictures."""
