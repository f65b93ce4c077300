"""A week of work and disturbances in an hour, and whether anything grows or is lost: ``make soak``."""
