"""A real Prometheus beside real services on one machine: whether every rule and every panel has something to show."""
