"""Command line, configuration and wiring; what a user's own strategy imports."""
