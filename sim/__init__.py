"""apical.sim."""
