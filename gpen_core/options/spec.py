"""The declaration of an option, the check of its values, and what front ends derive from both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypeVar

from ..errors import OptionsError

CLI, COMFYUI, A1111, API = "cli", "comfyui", "a1111", "api"
FRONT_ENDS = frozenset((CLI, COMFYUI, A1111, API))
COMMAND_LINE_ONLY = frozenset((CLI,))
VIDEO_FRONT_ENDS = frozenset((CLI, COMFYUI))
FACE_PARSER, FACE_EMBEDDER = "face_parser", "face_embedder"
"""The weights of ParseNet and of SFace, in `OptionSpec.weights`."""

Declared = TypeVar("Declared", bound="DeclaredOptions")


@dataclass(frozen=True)
class OptionSpec:
    """What front ends have to know about one option."""

    help: str
    """Its meaning in English, the only copy: whole sentences. Translations are keyed by it."""
    label: str
    """Its name for people."""
    group: str
    """`selection`, `detection`, `look`, `upscale` or `video`: options that are shown together."""
    minimum: float | None = None
    maximum: float | None = None
    """Both ends are included. None: there is none."""
    step: float | None = None
    """Of a slider. An integer: only whole numbers are accepted."""
    unit: str = ""
    choices: tuple[str, ...] = ()
    """The values there are; of `multiple`, any of them may be taken together."""
    multiple: bool = False
    suggestions: tuple[str, ...] = ()
    """Of a value that is text: some to choose from in a list that others can be typed into."""
    convert: Callable[[Any], Any] | None = None
    """Checks the value and gives it as it is kept, in place of all checks by range and choices."""
    is_repeatable: bool = False
    """Whether the command line takes it several times, with one value each."""
    flag: str = ""
    """Its name on the command line, if that is not its name in Python."""
    check_request: Callable[[Any], None] | None = None
    """Of a value that can name files: raises `OptionsError` if it does, or is wrong. See `DeclaredOptions.from_request`."""
    placeholder: str = ""
    """An example of a value that is text."""
    infotext: str = ""
    """Its name in the parameters that A1111 writes into an image; empty: it is not written."""
    front_ends: frozenset[str] = FRONT_ENDS
    """Where it is offered. What can name a file is for the command line and Python only: a request can name no path."""
    host_defaults: Mapping[str, Any] = field(default_factory=dict)
    """By front end, where its default is another one."""
    is_advanced: bool = False
    """Whether it is folded away at first sight."""
    on_device: bool = True
    """Whether values beside the default are computed on the GPU. Else faces are composited by the CPU."""
    weights: Callable[[Any], tuple[str, ...]] = lambda value: ()
    """The further weights that a value needs on any device."""

    @property
    def is_whole(self) -> bool:
        return isinstance(self.step, int)

    @property
    def label_with_unit(self) -> str:
        """`Min face size (px)`."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def range_text(self) -> str:
        """`0 to 1`, `64 to 8192 px`, `0 s or more`; empty where there is no range."""
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is None:
            return ""
        return f"{self.minimum:g}{unit} or more" if self.maximum is None else f"{self.minimum:g} to {self.maximum:g}{unit}"

    def validate(self, name: str, value: Any, default: Any) -> Any:
        """The value as Python's own type. Raises `OptionsError`."""
        if self.convert is not None:
            return self.convert(value)
        if value is None and default is None:
            return None
        if self.multiple:
            return parse_choices(name, value, self.choices, self.placeholder)
        if self.choices:
            check_choice(name, value, self.choices)
            return value
        if self.minimum is None:
            if not isinstance(value, str) or not value:
                raise OptionsError(f"{name} is {value!r}; expected {self.placeholder}.")
            return value
        check_range(name, value, self.minimum, math.inf if self.maximum is None else self.maximum, self.is_whole)
        return int(value) if self.is_whole else float(value)


def parse_choices(name: str, value: Any, choices: tuple[str, ...], example: str) -> tuple[str, ...]:
    """Several of `choices`, also as text with commas: in the order of `choices`, each once."""
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    try:
        names = frozenset(parts)
        known = names <= frozenset(choices)
    except TypeError:
        known = False
    if not known:
        raise OptionsError(f"{name} is {value!r}; expected some of {', '.join(choices)}, such as {example}.")
    return tuple(choice for choice in choices if choice in names)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionsError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")


def _is_finite(value: Any, whole: bool) -> bool:
    """Whether it fits into its Python type: a float cannot hold 10**400."""
    try:
        return whole or math.isfinite(value)
    except OverflowError:
        return False


def check_range(name: str, value: Any, low: float, high: float = math.inf, whole: bool = False) -> None:
    is_number = isinstance(value, Integral if whole else Real)
    if not is_number or not (low <= value <= high and _is_finite(value, whole)):
        kind = "a whole number" if whole else "a number"
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise OptionsError(f"{name} is {value!r}; expected {kind} of at least {low:g}{upper}.")


def declare(default: Any, label: str, text: str, group: str, **about: Any) -> Any:
    return field(default=default, metadata={"spec": OptionSpec(text, label, group, **about)})


@dataclass(frozen=True)
class Option:
    """A declared option of `RestoreOptions` or `VideoOptions`."""

    name: str
    default: Any
    spec: OptionSpec

    @property
    def flag(self) -> str:
        """Its name on the command line, without leading dashes: `min-face-size`."""
        return self.spec.flag or self.name.replace("_", "-")

    def default_for(self, front_end: str) -> Any:
        return self.spec.host_defaults.get(front_end, self.default)


class DeclaredOptions:
    """Validates each field by its declaration."""

    def __repr__(self) -> str:
        """Those that are not at their default."""
        changed = ", ".join(f"{option.name}={value!r}" for option, value in changed_options(self))
        return f"{type(self).__name__}({changed})"

    def __post_init__(self) -> None:
        for option in declared_options(type(self)):
            value = option.spec.validate(option.name, getattr(self, option.name), option.default)
            object.__setattr__(self, option.name, value)

    @classmethod
    def from_mapping(cls: type[Declared], values: Mapping[str, Any]) -> Declared:
        """The options among `values`, by their names; other keys are ignored. Raises `OptionsError`."""
        names = {option.name for option in declared_options(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    @classmethod
    def from_request(cls: type[Declared], values: Mapping[str, Any]) -> Declared:
        """Like `from_mapping`, for values that come with a request, a graph or an image: they must not name files.

        Raises `OptionsError`."""
        for option in declared_options(cls):
            if option.spec.check_request is not None and option.name in values:
                option.spec.check_request(values[option.name])
        return cls.from_mapping(values)


def declared_options(kind: type, front_end: str | None = None, *groups: str) -> list[Option]:
    """The options of `RestoreOptions` or `VideoOptions`, in their order: those that this front end offers, of these groups;
    without groups, of all."""
    options = (Option(one.name, one.default, one.metadata["spec"]) for one in fields(kind))
    return [
        one
        for one in options
        if (front_end is None or front_end in one.spec.front_ends) and (not groups or one.spec.group in groups)
    ]


def changed_options(options: Any) -> Iterator[tuple[Option, Any]]:
    """Those that are not at their default, each with its value."""
    for option in declared_options(type(options)):
        value = getattr(options, option.name)
        if value != option.default:
            yield option, value


def required_weights(options: DeclaredOptions) -> frozenset[str]:
    """The weights beside network and detector that these options need on any device, such as `FACE_PARSER`."""
    return frozenset(
        name for option in declared_options(type(options)) for name in option.spec.weights(getattr(options, option.name))
    )


def supported_on_device(options: DeclaredOptions) -> bool:
    """Whether all that these options ask for is computed on the GPU."""
    return all(option.spec.on_device for option, _ in changed_options(options))
