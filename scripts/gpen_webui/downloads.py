"""The button below the model list that downloads the files which the chosen model and options need."""

from __future__ import annotations

import concurrent.futures
import html
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from gpen_core import AUTO_MODELS, GpenError, Interrupted

from . import engine, failure_cache, host, models_list, run_report
from .host_progress import ProgressText
from .localization import translate

if TYPE_CHECKING:
    from gpen_core import Entry, ProgressEvent

FindMissing = Callable[..., "tuple[Entry, ...]"]
"""Returns the catalog entries to download for the values of a section's controls."""

POLL_SECONDS = 0.5
DOWNLOAD = "Download"
NOT_THERE = "Not downloaded yet"
FASTER_NOTE = (
    "It works for faces of any size. GPEN-BFR-512 is faster for faces of up to 512 px, GPEN-BFR-1024 for up to 1024 px."
)
DONE = "Downloaded, and verified against the publisher's SHA-256."
DONE_BY_STRUCTURE = "Downloaded. No SHA-256 is published for it, so only its structure was checked."
NOTHING_TO_DO = "All needed files are already downloaded."
CANCELLED = "Stopped. The next download resumes where this one stopped."
FAILED = "The download failed."
FAILED_TOAST = "GPEN: the download failed. The reason is below the list of models."


LAST_COMPONENT = "footer"  # id of the last component of the host's page: our lists exist when it is created

_sections: list[Section] = []


def reset() -> None:
    """Forget the sections of the last page, because the host builds a new one."""
    _sections.clear()


def on_component(component: Any, **made_with: Any) -> None:
    """The host calls this for each of its components. At the last one, make the page refresh our lists on each load."""
    page = getattr(getattr(gr, "context", None), "Context", None)
    root = getattr(page, "root_block", None)
    if made_with.get("elem_id") == LAST_COMPONENT and root is not None and _sections:
        sections = tuple(_sections)
        inputs = [part for section in sections for part in section.inputs]
        outputs = [part for section in sections for part in section.shown]
        root.load(fn=partial(_reload, sections), inputs=inputs, outputs=outputs, show_progress=False)


def _reload(sections: Sequence[Section], *values: Any) -> list[Any]:
    """Return the updates of all sections. `values` are the inputs of all sections, one after the other."""
    shown: list[Any] = []
    for section in sections:
        own, values = values[: len(section.inputs)], values[len(section.inputs) :]
        shown += section.update(*own)
    return shown


class Download:
    """A download in a thread of its own, so that the host can work in the meantime."""

    def __init__(self, names: Sequence[str]) -> None:
        self.text, self.done, self.total = "", 0, 0
        self._format = ProgressText()
        self._is_cancelled = threading.Event()
        self._outcome: concurrent.futures.Future[bool] = concurrent.futures.Future()
        threading.Thread(target=self._run, args=(names,), name="GPEN download", daemon=True).start()

    def cancel(self) -> None:
        self._is_cancelled.set()

    def is_finished(self, seconds: float) -> bool:
        """Wait at most `seconds` and return whether the download has finished."""
        return bool(concurrent.futures.wait([self._outcome], timeout=seconds).done)

    def result(self) -> bool:
        """Wait, then return whether every file was verified by a published digest. Raises the errors of the download."""
        return self._outcome.result()

    def _run(self, names: Sequence[str]) -> None:
        from gpen_core import download_weights

        try:
            records = download_weights(names, host.models_dirs(), self._on_progress)
        except BaseException as error:  # raised again by `result`
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(all(record.has_digest for record in records.values()))

    def _on_progress(self, event: ProgressEvent) -> None:
        if self._is_cancelled.is_set():
            raise Interrupted(CANCELLED)
        self.text, self.done, self.total = self._format(event), event.done, event.total or 0


class Section:
    """The text and the buttons below one list of models."""

    def __init__(self, model: gr.Dropdown, refresh: gr.Component) -> None:
        """Add the components to the page that is being built. `connect` adds the events, once all controls exist."""
        self.model, self._refresh = model, refresh
        self.status: Any = gr.HTML("")  # hidden while it has no text, because the page leaves a gap for an empty one
        self.download: Any = gr.Button(DOWNLOAD, size="sm", visible=False)
        self.cancel = gr.Button("Stop the download", size="sm", visible=False)  # at most one of the two is shown
        self.inputs: list[Any] = [model]
        self._running: list[Download] = []
        _sections.append(self)

    @property
    def shown(self) -> list[Any]:
        """The components that `update` changes."""
        return [self.model, self.status, self.download]

    def connect(self, controls: Mapping[str, Any], find_missing: FindMissing) -> None:
        """Connect the events. `controls` maps the argument names of `find_missing` to controls."""
        self.inputs = list(controls.values())
        self._names, self._find_missing = tuple(controls), find_missing
        entries = self._missing(*(control.value for control in self.inputs))
        text = _status_text(self.inputs[0].value, entries)
        self.status.value, self.status.visible = _status_html(text), bool(text)
        self.download.value, self.download.visible = _button_label(entries), bool(entries)
        for control in self.inputs:
            control.change(fn=self.update, inputs=self.inputs, outputs=self.shown, show_progress=False)
        self._refresh.click(fn=self.update, inputs=self.inputs, outputs=self.shown)
        self.download.click(
            fn=self.run if host.has_queue() else self.run_to_end,
            inputs=self.inputs,
            outputs=[self.cancel, *self.shown],
        )
        self.cancel.click(fn=self._cancel, inputs=[], outputs=[], queue=False)

    def update(self, *values: Any) -> list[Any]:
        """Return the updates of `shown` for the values of `inputs` and the current content of the folders."""
        return self._updates("", values)

    def _updates(self, message: str, values: Sequence[Any]) -> list[Any]:
        entries = self._missing(*values)
        return [
            gr.update(choices=engine.model_choices()),
            _status_update(message + _status_text(values[0], entries)),
            gr.update(value=_button_label(entries), visible=bool(entries)),
        ]

    def run(self, *values: Any) -> Iterator[list[Any]]:
        """Download the missing files and yield the progress."""
        if names := [entry.name for entry in self._missing(*values)]:
            self._running.append(download := Download(names))
            while not download.is_finished(POLL_SECONDS):
                progress = _status_update(_progress_html(download))
                yield [gr.update(visible=True), gr.update(), progress, gr.update(visible=False)]
            self._running.remove(download)
            message = _outcome_html(download)
            failure_cache.clear()
        else:
            message = run_report.paragraph(NOTHING_TO_DO)
        yield [gr.update(visible=False), *self._updates(message, values)]

    def run_to_end(self, *values: Any) -> list[Any]:
        """Like `run`, for pages without a queue, which can only show the end."""
        *_, last = self.run(*values)
        return last

    def _cancel(self) -> None:
        for download in self._running:
            download.cancel()

    def _missing(self, *values: Any) -> tuple[Entry, ...]:
        try:
            return self._find_missing(**dict(zip(self._names, values)))
        except GpenError as error:  # an invalid value; a run shows the error
            host.log.info("GPEN: %s", error)
            return ()


def _status_text(model: Any, entries: Sequence[Entry]) -> str:
    sentences: list[str] = []
    if entries:
        files = ", ".join(f"{entry.file} ({_megabytes(entry)})" for entry in entries)
        sentences.append(f"<span>{NOT_THERE}</span>: {html.escape(files)}.")
        if model in AUTO_MODELS and entries[0].size:
            sentences.append(f"<span>{FASTER_NOTE}</span>")
        sentences += [f"<span>{html.escape(text)}</span>" for text in dict.fromkeys(entry.license for entry in entries)]
    return f"<small style='overflow-wrap: anywhere'>{' '.join(sentences)}</small>" if sentences else ""


def _status_html(text: str) -> str:
    """Return the text with the style sheet of our lists, which also works in a hidden element."""
    return models_list.current_style() + text


def _status_update(text: str) -> Any:
    return gr.update(value=_status_html(text), visible=bool(text))


def _button_label(entries: Sequence[Entry]) -> str:
    return f"{translate(DOWNLOAD)} ({sum(_bytes(entry) for entry in entries) / 1e6:.0f} MB)" if entries else DOWNLOAD


def _progress_html(download: Download) -> str:
    share = f" value='{download.done}' max='{download.total}'" if download.total else ""
    return f"<progress{share} style='width: 100%'></progress>{run_report.paragraph(download.text)}"


def _outcome_html(download: Download) -> str:
    try:
        return run_report.paragraph(DONE if download.result() else DONE_BY_STRUCTURE)
    except Interrupted:
        return run_report.paragraph(CANCELLED)
    except GpenError as error:
        host.log.error("GPEN: %s", error)
        host.warn(FAILED_TOAST)
        return run_report.paragraph(FAILED, str(error))


def _bytes(entry: Entry) -> int:
    return entry.known_bytes or 0


def _megabytes(entry: Entry) -> str:
    return f"{_bytes(entry) / 1e6:.0f} MB"
