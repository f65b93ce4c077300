"""Options and arguments that several commands have, and the values that they stand for."""
