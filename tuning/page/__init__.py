"""What the report's page is made of: importances, plots, template, style, script."""
