"""The gateway: a recording in, who said what and when out."""
