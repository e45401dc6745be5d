"""From a command line to a run: arguments, resolved config, run folder. Imports no torch."""
