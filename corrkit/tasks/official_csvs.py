"""Result files in the official tools' own form."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from corrkit.text import one_line, spreadsheet_cell

_GLOBAL = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")


def davis_csvs(
    metrics: Mapping[str, float], per_object: Mapping[str, tuple[float, float]], split: str
) -> dict[str, str]:
    """The two files of the official DAVIS tool, file name to text: three decimals, NaN empty.

    Args:
        metrics: J&F-Mean, J-Mean, J-Recall, J-Decay, F-Mean, F-Recall and F-Decay of the data set.
        per_object: "<clip>_<id>" to its (J-Mean, F-Mean), in the order of the split.
        split: goes into the file names, e.g. "val".

    Source: davisvideochallenge/davis2017-evaluation ac7c43f evaluation_method.py:24-59 (pandas, float_format "%.3f").
    """
    rows = [[name, _three(j), _three(f)] for name, (j, f) in per_object.items()]
    return {
        f"global_results-{split}.csv": csv_text([_GLOBAL, [_three(metrics[name]) for name in _GLOBAL]]),
        f"per-sequence_results-{split}.csv": csv_text([["Sequence", "J-Mean", "F-Mean"], *rows]),
    }


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV with Unix line ends; cells are quoted only where they must be; none is a formula or steers."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([spreadsheet_cell(one_line(cell)) for cell in row] for row in rows)
    return file.getvalue()


def _three(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
