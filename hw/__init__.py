"""apical.hw."""
