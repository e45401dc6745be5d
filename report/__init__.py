"""Tables and figures of a paper: which runs fill them, what was printed, the report. No training code."""
