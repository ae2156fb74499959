"""A run on disk: its directory, journal, events and the rules of its life."""
