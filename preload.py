"""A1111's command line: our flag."""

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    """Adds it to the host's flags."""
    parser.add_argument("--gpen-models-path", type=str, default=None, help="folder of GPEN's weights; default: models/GPEN")
