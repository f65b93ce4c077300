"""Monitoring: what is scraped, rules, dashboards, and the check that all of it works on the real services."""
