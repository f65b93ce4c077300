"""How fast jobs are, and how soon other gateways take them over: ``make bench-jobs``."""
