"""The paper's tables and figures: which runs fill them, what was printed, the report. No training code."""
