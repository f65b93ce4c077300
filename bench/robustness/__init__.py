"""What damage of a recording does to answers: ``make bench-robustness``."""
