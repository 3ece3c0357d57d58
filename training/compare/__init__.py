"""AdamW against Muon, from the learning rates to the benchmark: ``python -m training.compare``.

`lots` divides the documents in three: to train on, to select on, to report on. `grid` says which
learning rates are tried, and which is best. `runs` trains one run as a process; `arms` trains the
grids, then fresh matched seeds. `bench` merges adapters and asks them the benchmark's questions.
`paired` has the statistics. `report` collects what was found, `words` and `plots` show it.
"""
