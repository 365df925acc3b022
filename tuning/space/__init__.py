"""What a search space file may say, and how it is read."""
