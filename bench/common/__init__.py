"""What several measurements share: recordings with the truth about them, stacks to measure, scoring, tables."""
