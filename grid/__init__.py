"""Many runs of train.py: what identifies a run, which state it is in, and who runs it when.

spec.py        one run, as a user would ask for it
plan.py        wanted runs -> every run that must be there, with its folder, its state and its command
current.py     what the runs read, as it is on this machine now
scheduler.py   runs what is left: order, one retry, why a run failed, a clean stop
display.py     how far the grid is, on a terminal or in a log
executors/     where runs are executed: this machine, a Ray cluster, jobs of SLURM
worker.py      a warm process that executes one run after another

It knows train.py's run folder and config and nothing of what the runs are for. Only worker processes import
torch.
"""
