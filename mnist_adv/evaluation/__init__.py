"""Measure a classifier on a whole data set: attacks, budgets, targets; interrupted and resumed.

`plan.py` says what is to be measured and cuts it into chunks. `measure/` turns each chunk into the
bytes of its result file, in this process, several, or on a Dask cluster, and keeps these files.
`analyse/` reads them: a table, statistics, the certified optimum, costs, and checks of what must be
true. `report/` writes figures, files, one HTML page and TensorBoard's summaries.
"""
