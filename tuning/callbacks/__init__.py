"""What follows a search while it runs."""
