"""What the first pass of preprocessing tells: samples of each cleaning step, languages, pairs to review, and leakage."""

from __future__ import annotations

from celery_workers.contract.context import Table
from celery_workers.data.selection_counts import SelectionCounts

_SHOWN_PAIRS = 50
_CONTAMINATED = {"question": "ask what an evaluation set asks", "row": "stand in an evaluation set"}


def left_out(selection: SelectionCounts) -> list[str]:
    """Return a clause for each reason beyond the usual ones for which rows were left out."""
    reasons = {
        "nearly repeat another": selection.near_dropped_rows,
        _CONTAMINATED[selection.evaluation_match]: selection.contaminated_rows,
        "are in another language": selection.other_language_rows,
    }
    return [f"{count} {reason}" for reason, count in reasons.items() if count]


def warnings(selection: SelectionCounts) -> list[str]:
    """Return a sentence for each thing that its reader should know."""
    found = []
    if selection.leaked_rows:
        found.append(f"{selection.leaked_rows} rows named for training nearly repeated one that is held out.")
    if selection.moved_rows:
        found.append(
            f"{selection.moved_rows} rows named for training are held out, because they repeat or go with one that is."
        )
    if selection.leaked_contents:
        found.append(f"{selection.leaked_contents} contents stand on both sides of the split.")
    if selection.capped_rows:
        found.append(f"{selection.capped_rows} rows resemble so many others that they were not compared with all of them.")
    return found


def tables(selection: SelectionCounts) -> list[Table]:
    """Return the tables of the steps that were taken."""
    found = []
    if any(selection.cleaning_samples.values()):
        found.append(_cleaning_samples(selection))
    if selection.masked:
        found.append(_counts("Personal data masked", "kind", "findings", selection.masked))
    if selection.languages is not None:
        found.append(_counts("Languages of rows", "language", "rows", selection.languages))
    found.append(_leakage(selection))
    if selection.near_duplicates != "off":
        found.append(_near_pairs(selection))
    if selection.evaluation_rows:
        found.append(_contaminated(selection))
    return found


def evidence(selection: SelectionCounts) -> dict[str, object]:
    """Return the rows and pairs behind the tables."""
    return {
        "other_language_rows": selection.other_language,
        "near_duplicates": selection.near_pairs,
        "contaminated": selection.contaminated_pairs,
    }


def _cleaning_samples(selection: SelectionCounts) -> Table:
    rows: list[list[str | int | float | bool | None]] = [
        [step, *(sample[column] for column in ("row_number", "before", "after"))]  # type: ignore[list-item]
        for step, samples in selection.cleaning_samples.items()
        for sample in samples
    ]
    return Table(title="Samples of cleaning", columns=["step", "row", "before", "after"], rows=rows)


def _counts(title: str, what: str, unit: str, counts: object) -> Table:
    ordered = sorted(dict(counts).items(), key=lambda item: (-item[1], item[0]))  # type: ignore[call-overload]
    return Table(title=title, columns=[what, unit], rows=[[name, count] for name, count in ordered])


def _leakage(selection: SelectionCounts) -> Table:
    is_looking = selection.near_duplicates != "off"
    counts = {
        "contents on both sides of the split": selection.leaked_contents,
        "rows named for training, held out for their content or group": selection.moved_rows,
        "rows that nearly repeat a held-out row, left out": selection.leaked_rows if is_looking else None,
        "rows of groups of near duplicates, kept on one side": selection.grouped_rows if is_looking else None,
        f"rows that {_CONTAMINATED[selection.evaluation_match]}, left out": selection.contaminated_rows
        if selection.evaluation_rows
        else None,
    }
    rows: list[list[str | int | float | bool | None]] = [
        [what, "not looked for" if count is None else count] for what, count in counts.items()
    ]
    return Table(title="Leakage", columns=["what", "rows"], rows=rows)


def _near_pairs(selection: SelectionCounts) -> Table:
    title = "Near duplicates, left out" if selection.near_duplicates == "drop" else "Near duplicates, kept together"
    columns = ["row", "same_as", "similarity", "text", "other_text"]
    return _pairs(title, columns, selection.near_pairs)


def _contaminated(selection: SelectionCounts) -> Table:
    columns = ["row", "evaluation_set", "evaluation_row", "similarity", "text", "other_text"]
    return _pairs(f"Rows that {_CONTAMINATED[selection.evaluation_match]}, left out", columns, selection.contaminated_pairs)


def _pairs(title: str, columns: list[str], pairs: list[dict[str, object]]) -> Table:
    rows = [[pair[column] for column in columns] for pair in pairs[:_SHOWN_PAIRS]]
    return Table(title=title, columns=columns, rows=rows)  # type: ignore[arg-type]
