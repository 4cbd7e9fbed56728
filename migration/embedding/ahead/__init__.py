"""Texts embedded before a migration wants them: into the vector cache, by one of several ways, a module each."""
