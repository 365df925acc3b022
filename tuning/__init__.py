"""Many runs: the search, its record, its report, and the final script."""
