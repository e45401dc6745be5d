"""Tables and figures of any paper: which runs fill them, what was printed, the report. No training code."""
