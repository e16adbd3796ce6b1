"""Opens the report that `--report` names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..options import RestoreOptions, face_references

if TYPE_CHECKING:
    from ..batch.report_files import Report


def report_names(args: argparse.Namespace, options: RestoreOptions) -> dict[str, Any]:
    """Return the requested networks and the digests of the reference photos. A run that resumes this one compares them."""
    names: dict[str, Any] = {"model": args.model, "detector": args.detector}
    if face_references(options.faces):
        from ..pipeline.people import references_digest

        names["references"] = references_digest(options)
    return names


def open_run_report(
    args: argparse.Namespace,
    options: RestoreOptions,
    names: Mapping[str, Any],
    left_out: Mapping[str, int],
    noun: str = "image",
) -> Report:
    """Open the report of a run over several inputs. `left_out` counts the files of folders that are no inputs. See
    `report_files.open_report`.

    With `--skip-existing`, an earlier report is continued, and a warning says whether its options were different."""
    from ..batch import report_files

    names = {**names, "left_out": dict(left_out)} if left_out else dict(names)
    if args.report is not None and args.skip_existing:
        report_files.warn_about_option_changes(args.report, names, options)
    return report_files.open_report(args.report, names, options, args.skip_existing, noun)
