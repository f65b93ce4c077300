"""Jobs while every process is killed again and again: ``make chaos``."""
