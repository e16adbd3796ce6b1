"""The script "GPEN Face Restore" of txt2img and img2img. It runs on the finished image, after ReActor and ADetailer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import gradio as gr
import numpy as np
from modules import images, processing, scripts, shared
from PIL import Image

from gpen_core import GpenError, Interrupted

from . import controls, engine, host, infotext, restorer
from .panel import panel

TITLE = "GPEN Face Restore"
SAVE_BEFORE = "save_before"


class GpenScript(scripts.Script):
    """Always visible, off by default."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        tab = "img2img" if is_img2img else "txt2img"
        with panel(TITLE, f"gpen_{tab}") as enable:
            parts = controls.build(_add_save_before)
        self.infotext_fields = infotext.fields({"enable": enable, **parts})
        self.paste_field_names = list(infotext.KEYS)
        return [enable, *parts.values()]

    def before_process(self, p: Any, *args: Any) -> None:
        """Reject invalid values of an API request before anything is sampled. The host only logs errors raised here, so the
        error is raised in the next method of `p` that the host calls. `p` lives for one request."""
        named = _named_args(args)
        if not (named.get("enable") and getattr(p, "is_api", False)):
            return
        try:
            controls.parse_switch(SAVE_BEFORE, named.pop(SAVE_BEFORE, None))
            controls.check_model(controls.parse_values(**named).model)
        except GpenError as error:
            p.setup_prompts = partial(_reject, str(error))

    def postprocess_batch_list(self, p: Any, pp: Any, *args: Any, **kwargs: Any) -> None:
        named = _named_args(args)
        enabled = bool(named.get("enable")) or hasattr(p, "gpen_xyz")
        if enabled and named.get("only_swapped"):  # ReActor runs after this
            p.gpen_before = [np.rint(np.moveaxis(x.float().cpu().numpy(), 0, 2) * 255).astype(np.uint8) for x in pp.images]

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        if host.is_sdnext():  # it has no later callback
            self.postprocess_image_after_composite(p, pp, *args)

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        problem = restorer.pop_error()  # from the face restorer, which cannot show errors
        p.extra_generation_params.pop(infotext.FAILED, None)  # of the image before this one
        if problem is not None:
            p.extra_generation_params[infotext.FAILED] = host.short_reason(problem)
            host.notify(problem, p)
        overrides = getattr(p, "gpen_xyz", {})
        named = _named_args(args) | overrides
        if not (named.get("enable") or overrides):
            return
        values, saves_before = None, named.pop(SAVE_BEFORE, None)
        try:
            save_before = controls.parse_switch(SAVE_BEFORE, saves_before)
            values = controls.parse_values(**named)
            self._restore(p, pp, values, save_before)
        except GpenError as error:
            entries = infotext.format_failure(named.get("model"), host.short_reason(error), values)
            infotext.apply(p.extra_generation_params, entries)
            if isinstance(error, Interrupted):
                host.log.info("GPEN: %s", error)
            else:
                host.notify(error, p)

    def _restore(self, p: Any, pp: Any, values: controls.ControlValues, save_before: bool) -> None:
        if values.options.strength == 0:
            infotext.apply(p.extra_generation_params, infotext.format_infotext(values, 0))
            return
        before = _image_before_swap(p, pp.image) if values.only_swapped else None
        mask = getattr(p, "mask_for_overlay", None)
        if mask is not None and _is_masked_crop(p):
            x, y, width, height = p.paste_to
            mask = mask.crop((x, y, x + width, y + height))
        region_mask = None if mask is None else np.asarray(mask.convert("L"), np.float32) / 255
        result = engine.restore(
            pp.image, values.model, values.options, before_swap=before, region_mask=region_mask, detector=values.detector
        )
        if save_before and result.is_changed:
            _save_before(p, pp.image)
        pp.image = result.image
        infotext.apply(
            p.extra_generation_params, infotext.format_infotext(values, sum(face.restored for face in result.faces))
        )
        host.report_notes(result.notes, p)


def _add_save_before(parts: dict[str, Any]) -> None:
    parts[SAVE_BEFORE] = gr.Checkbox(label='Also save the image before restoration, as "-before-gpen"', value=False)


def _reject(message: str) -> NoReturn:
    from fastapi import HTTPException  # FastAPI is installed if the API is on

    raise HTTPException(422, f"{TITLE}: {message}")


def _named_args(args: Sequence[Any]) -> dict[str, Any]:
    """Return the values of the controls by name. API clients may leave out the last ones.

    API clients may also pass a dict of values by name, alone or after the others. Without `enable` it turns GPEN on."""
    named = dict(zip(("enable", *controls.CONTROL_NAMES, SAVE_BEFORE), args))
    given = [value for value in args if isinstance(value, dict)]
    if not given:
        return named
    named = {"enable": True, **{name: value for name, value in named.items() if not isinstance(value, dict)}}
    for values in given:
        named |= values
    return named


def _image_before_swap(p: Any, image: Image.Image) -> Image.Image:
    """Return the sampled image. With "only masked", it is pasted into its place in the whole image."""
    images_before, index = getattr(p, "gpen_before", None), getattr(p, "batch_index", 0)
    if images_before is None or index >= len(images_before):
        raise GpenError(
            "The image before the swap is not available, so swapped faces cannot be found. Uncheck Only swapped faces."
        )
    sampled = Image.fromarray(images_before[index])
    place = getattr(p, "paste_to", None)
    if place is None or _is_masked_crop(p):
        return sampled
    x, y, width, height = place
    whole = image.convert("RGB")
    whole.paste(sampled.resize((width, height), Image.Resampling.LANCZOS), (x, y))
    return whole


def _is_masked_crop(p: Any) -> bool:
    """Return whether "only masked" returns only the masked part, because the host's setting to overlay it is off."""
    return getattr(p, "paste_to", None) is not None and not getattr(shared.opts, "overlay_inpaint", True)


def _save_before(p: Any, image: Image.Image) -> None:
    """Save the image with the parameters that it would have without GPEN."""
    n = getattr(p, "batch_index", 0)
    infotext.apply(p.extra_generation_params, {})  # of the image before this one
    info = processing.create_infotext(p, p.prompts, p.seeds, p.subseeds, index=n, all_negative_prompts=p.negative_prompts)
    more = {"info": info, "p": p, "suffix": "-before-gpen"}
    images.save_image(image, p.outpath_samples, "", p.seeds[n], p.prompts[n], shared.opts.samples_format, **more)
