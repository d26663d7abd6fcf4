"""Measure a classifier on a whole data set: attacks, budgets, targets; cut off and resumed at will.

`plan.py` says what is to be measured and cuts it into chunks; `models/model_source.py` opens it in
any process; `attacking.py` runs a named attack; `chunk.py` turns a chunk into the bytes of its
result file; `store.py` is the folder of these files; `run.py` hands chunks to engines; `table.py`
and `statistics.py` read them; `checks.py` holds them against what must be true; `truth.py`,
`costs.py` and `baseline_libraries.py` set the optimum, speed and other tools beside them; `figures.py`,
`report.py`, `tensorboard.py` and `outputs.py` show them.
"""
