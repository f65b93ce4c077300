"""How right, fast and large the whole stack is: ``make bench`` writes docs/benchmarks.md."""
