"""Loads the networks that the arguments of a command name, here and in workers."""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, OptionsError
from ..options import RestoreOptions
from .progress_display import NONE, progress_reporter

if TYPE_CHECKING:
    from ..batch.ray_cluster import ClusterConfig
    from ..pipeline.restorer import FaceRestorer
    from ..weights.download_options import DownloadOptions
    from ..weights.store import Store

LOAD_ARGUMENTS = (
    "model",
    "detector",
    "models_dir",
    "device",
    "dtype",
    "offline",
    "require_digest",
    "compile",
    "progress",
    "quiet",
)
"""The arguments that `load_restorer` uses."""


def downloads_from_args(args: argparse.Namespace) -> DownloadOptions:
    """Return the options of downloads: the arguments `--offline` and `--require-digest`, else the environment."""
    from ..weights.download_options import DownloadOptions

    return DownloadOptions.from_environment(args.offline, args.require_digest)


def open_store(args: argparse.Namespace, **downloads: Any) -> Store:
    """Return the weights in the folder that `--models-dir` names. `downloads`: see `DownloadOptions.from_environment`."""
    from ..weights.download_options import DownloadOptions
    from ..weights.folders import models_dirs
    from ..weights.store import Store

    return Store(models_dirs(args.models_dir), DownloadOptions.from_environment(**downloads))


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import torch in this block, and keep the garbage collector from looking through what it made.

    torch makes so many objects that the collector needs a tenth of the time of one photo to search them repeatedly. If torch
    is already imported, as in a host or a worker, nothing changes."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def load_restorer(
    args: argparse.Namespace, options: RestoreOptions, on_loaded: Callable[[FaceRestorer], None] = lambda restorer: None
) -> FaceRestorer:
    """Load the networks for a run with these arguments, and download missing ones. `on_loaded` is called with the restorer
    before further networks that the options need are loaded."""
    with without_garbage_collection():
        from ..pipeline.restorer import FaceRestorer

    with progress_reporter(args) as progress:
        restorer = FaceRestorer.load(
            args.model,
            args.detector,
            args.models_dir,
            args.device,
            args.dtype,
            progress=progress,
            downloads=downloads_from_args(args),
            upscaler=options.upscaler,
        )
        on_loaded(restorer)
        restorer.prepare(options, progress)
        restorer.read_references(options, progress)
    if args.compile:
        restorer.compile()
    return restorer


def check_workers(args: argparse.Namespace) -> None:
    """Raise `OptionsError` for `--workers` without `--ray`."""
    if args.workers is not None and args.ray is None:
        raise OptionsError("--workers needs --ray. Without it, one process does all the work.")


def cluster_from_args(args: argparse.Namespace) -> ClusterConfig:
    """Return the cluster that `--ray` and `--workers` select. Raises `MissingDependency` and `OptionsError`."""
    try:
        from ..batch import ray_cluster
    except ImportError as error:  # a registry's copy of this package may lack the modules that open connections
        raise MissingDependency(
            f"This copy of the package has no --ray ({error}). Install it from its repository."
        ) from error
    which = ray_cluster.ClusterConfig(None if args.ray == "local" else args.ray, args.workers, args.device)
    ray_cluster.import_ray()
    return which


def load_local(args: argparse.Namespace, options: RestoreOptions, device: str) -> FaceRestorer:
    """Load the networks locally, which downloads and verifies the weights before the workers need them. On another machine,
    the first worker downloads what is missing there."""
    return load_restorer(
        argparse.Namespace(**{**_load_arguments(args), "device": device, "dtype": "auto", "compile": False}), options
    )


def restorer_loader(args: argparse.Namespace, options: RestoreOptions) -> Callable[[], FaceRestorer]:
    """Return a function that loads the networks in a worker."""
    return partial(load_restorer, argparse.Namespace(**{**_load_arguments(args), "progress": NONE}), options)


def _load_arguments(args: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(args).items() if key in LOAD_ARGUMENTS}
