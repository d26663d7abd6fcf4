"""Measure a classifier on a whole data set, interrupted and resumed at will.

`plan.py` says what is to be measured and cuts it into chunks. `measure/` turns each chunk into the
bytes of its result file, here or on other processes and machines. `analyse/` reads these files into
one table and computes statistics, checks and costs; `report/` shows them.
"""
