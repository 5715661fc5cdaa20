"""The leaderboard: boards of numbers that may be compared, published scores, and the pages that show them."""
