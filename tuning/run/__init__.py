"""One run: its options, its slots, its folder and files."""
