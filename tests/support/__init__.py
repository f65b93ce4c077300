"""What tests share: stand-ins, real servers and stacks, recordings that are made on the spot."""
