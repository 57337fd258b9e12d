"""A manifest: the rows of a campaign, each a picture to be made. Read, checked and priced; nothing is started.

`read_manifest` takes CSV, JSON or a list of objects, in the many ways they are written (`decoding.py`, `csv_rows.py`,
`json_rows.py`), and gives every row with what each pass over it will ask of a model, or one error that lists all that
is wrong, by row and column. `draft_of` and `final_of` say what a pass asks; `duplicates` and `forecast` look at the
rows before anything is paid. Pure: what a model accepts is asked of the `Check` that is passed in.
"""

from __future__ import annotations

from darkroom.batches.checking import Check, Checked, Manifest, Row, duplicates, read_manifest, without_defaults
from darkroom.batches.forecasting import Forecast, forecast
from darkroom.batches.passes import Pass, Passes, draft_of, final_of
from darkroom.batches.problems import ManifestError, Problem
from darkroom.batches.raw import MOST_BYTES, MOST_ROWS

__all__ = [
    "MOST_BYTES",
    "MOST_ROWS",
    "Check",
    "Checked",
    "Forecast",
    "Manifest",
    "ManifestError",
    "Pass",
    "Passes",
    "Problem",
    "Row",
    "draft_of",
    "duplicates",
    "final_of",
    "forecast",
    "read_manifest",
    "without_defaults",
]
