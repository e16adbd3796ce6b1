"""The "GPEN" operation of the Extras page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from modules import scripts, scripts_postprocessing, shared

from gpen_core import GpenError, InputError, Interrupted, OutOfMemory

from . import controls, engine, failure_cache, host, infotext, preview
from .panel import panel

NAME = host.NAME
NOT_SAVED_NOTE = "This image is not saved. To save such images unchanged, turn on Save failed images in the GPEN settings."
FRAMES_NOTE = "Each frame was restored independently, so faces may flicker. Use gpen video to keep them steady."
FRAMES_KEPT_NOTE = "The video keeps this frame unrestored, so that no frame is missing."
SKIPPED_NOTE = "Skipped. This image is not saved."
KEPT_NOTE = "The result of the earlier operations is kept."
VIDEO_NOTE = (
    "Video frames in a folder are restored independently, so faces may flicker. Use gpen video on the command line or "
    "ComfyUI's Restore Video (GPEN) to keep them steady."
)
REACTOR = "ReActor"
BEFORE_SWAP_NOTE = "Your operation order runs GPEN before ReActor, so GPEN cannot clean up a face swap."
ORDER_AFTER_CODEFORMER, ORDER_AFTER_SWAPS = 3100, 20100
LAST_TRAINING_ORDER = 5000  # the host's own operations for training images have lower orders


class GpenExtras(scripts_postprocessing.ScriptPostprocessing):
    """Off by default. Runs after upscaling (1000) and CodeFormer (3000), and after ReActor (20000) if it is installed."""

    name = NAME

    @property
    def order(self) -> int:
        """Just after the host's own restorers, or after ReActor if a later operation may swap faces."""
        known = getattr(scripts, "postprocessing_scripts_data", None)
        orders = [ORDER_AFTER_SWAPS - 1] if known is None else [_order(one.script_class) for one in known]
        return (
            ORDER_AFTER_SWAPS
            if any(LAST_TRAINING_ORDER < order < ORDER_AFTER_SWAPS for order in orders)
            else ORDER_AFTER_CODEFORMER
        )

    def ui(self) -> dict[str, Any]:
        with panel(NAME, in_accordion=True) as enable:
            if runs_before_reactor():
                gr.HTML(f"<b>{BEFORE_SWAP_NOTE}</b>")
            parts = controls.build(preview.build, _add_video_note)
            parts["only_swapped"].visible = not host.is_sdnext()  # its page keeps no image before the swap
        return {"enable": enable, **parts}

    def image_changed(self) -> None:
        failure_cache.clear()

    def process_firstpass(self, pp: Any, **args: Any) -> None:
        if not args.get("enable"):
            return
        pp.gpen_first, pp.gpen_file = pp.image, shared.state.textinfo  # None for a single image
        if args.get("only_swapped"):
            pp.gpen_before = pp.image.copy()

    def process(self, pp: Any, **args: Any) -> None:
        if not args.get("enable"):  # the API passes None for every argument of operations that it does not support
            return
        try:
            values = controls.parse_values(**args)
            if values.options.strength > 0:
                self._restore(pp, values)
        except GpenError as error:
            self._report_failure(pp, error)

    def _report_failure(self, pp: Any, error: GpenError) -> None:
        """Keep the result of earlier operations and write into its parameters that GPEN failed. An image that no operation
        changed is not saved, unless the user has turned on *Save failed images*."""
        is_changed = bool(pp.info) or pp.image is not getattr(pp, "gpen_first", pp.image)
        file = _file_name(pp) if isinstance(error, (InputError, OutOfMemory)) else ""  # others do not depend on the image
        if _is_frame(pp):
            host.notify(error, note=FRAMES_KEPT_NOTE)
        elif isinstance(error, Interrupted) and host.drops_image():
            host.report_notes([SKIPPED_NOTE])
        elif is_changed or host.option("keep_failed", False) or not host.can_skip_saving():
            pp.info[infotext.FAILED] = host.short_reason(error)
            host.notify(error, note=KEPT_NOTE if is_changed else "", file=file)
        else:
            host.notify(error, note=NOT_SAVED_NOTE, file=file)
            host.skip_saving(error)

    def _restore(self, pp: Any, values: controls.ControlValues) -> None:
        if pp.image is None:  # the video mode of SD.Next
            raise InputError("GPEN restores no videos on this page. Use gpen video on the command line.")
        before = getattr(pp, "gpen_before", None)
        if values.only_swapped and before is None:
            raise GpenError(
                "The image before the swap is not available, so swapped faces cannot be found. Uncheck Only swapped faces."
            )
        result = engine.restore(pp.image, values.model, values.options, before_swap=before, detector=values.detector)
        pp.image = result.image
        pp.info.update(infotext.format_infotext(values, sum(face.restored for face in result.faces)))
        name = _file_name(pp)
        summary = f"{name}: {result.summary}" if name else result.summary
        notes = result.notes if result.faces else (summary, *result.notes)
        host.report_notes([*notes, FRAMES_NOTE] if _is_frame(pp) else notes)


def _file_name(pp: Any) -> str:
    """Return the name of the image's file in a batch, else an empty string."""
    return Path(getattr(pp, "gpen_file", None) or "").name


def _is_frame(pp: Any) -> bool:
    """Return whether the image is a video frame (Forge Neo). A skipped frame would be missing from the new video."""
    return bool(getattr(getattr(pp, "shared", None), "is_video", False))


def _add_video_note(parts: dict[str, Any]) -> None:
    gr.HTML(f"<small>{VIDEO_NOTE}</small>")


def _order(operation: Any) -> int:
    order = getattr(operation, "order", 0)
    return order if isinstance(order, int) else 0  # our own order is a property of the instance


def runs_before_reactor() -> bool:
    """Return whether the user's operation order puts GPEN before ReActor, or names only GPEN."""
    if NAME not in (getattr(shared.opts, "postprocessing_operation_order", None) or []):
        return False
    runner = scripts.scripts_postproc
    names = [script.name for script in runner.scripts_in_preferred_order()] if runner is not None else []
    return REACTOR in names and NAME in names and names.index(NAME) < names.index(REACTOR)
