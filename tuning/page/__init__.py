"""What the report's page is made of: facts, importances, plots, template, style, script."""
