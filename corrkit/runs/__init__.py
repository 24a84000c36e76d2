"""The run folder, the one results format, tables and the leaderboard: files, no tensors."""
