"""Jobs: what is to be done, by whom it is being done, and what became of it. ``docs/jobs.md`` has the rules."""
