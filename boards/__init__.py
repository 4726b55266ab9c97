"""Boards: one YAML table each."""
