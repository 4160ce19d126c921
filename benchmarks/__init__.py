"""Measurements: each module answers one question; see README.md."""
