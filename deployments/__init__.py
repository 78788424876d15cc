"""How it runs: command line, local stack, hospital worker."""
