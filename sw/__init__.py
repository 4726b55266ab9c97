"""apical.sw."""
