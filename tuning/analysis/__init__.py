"""Numbers, remarks, figures and the report of a run."""
