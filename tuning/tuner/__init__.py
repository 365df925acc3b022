"""Begins, resumes, runs and ends one search."""
