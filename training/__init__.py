"""One run: an experiment as a function, and its command line."""
