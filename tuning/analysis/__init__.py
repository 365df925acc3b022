"""Numbers, remarks, tables and the report of a run.

`advice`, `html`, `run_data` and `importance` are imported by their own names: they need Optuna,
and `runs.py` must not wait for it.
"""

from tuning.analysis.comparison import Comparison, describe_range
from tuning.analysis.run_tables import print_comparison, print_list
