"""What the command writes: results, tables, progress and messages. Calls no gateway."""
