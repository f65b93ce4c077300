"""Memory and processors of this process: measured, limited and given back."""
