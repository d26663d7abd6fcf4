"""From the analysis to a page, figures and files."""
