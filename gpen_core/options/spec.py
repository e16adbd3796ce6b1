"""How an option is declared and its values are checked, and what front ends read from the declarations."""

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
    """The declaration of one option, from which every front end derives its controls."""

    help: str
    """The help text in English, in whole sentences. Translations are keyed by it."""
    label: str
    """The name that users see."""
    group: str
    """`selection`, `detection`, `look`, `upscale` or `video`. Options of a group are shown together."""
    minimum: float | None = None
    maximum: float | None = None
    """The range, both ends included. None: no limit."""
    step: float | None = None
    """The step of a slider. If it is an integer, only whole numbers are accepted."""
    unit: str = ""
    choices: tuple[str, ...] = ()
    """The accepted values."""
    multiple: bool = False
    """Whether a value may consist of several choices."""
    suggestions: tuple[str, ...] = ()
    """For text: values that a list offers, into which others can be typed."""
    convert: Callable[[Any], Any] | None = None
    """Checks and converts a value. It replaces the checks of range and choices."""
    is_repeatable: bool = False
    """Whether it can be given several times on the command line, with one value each."""
    flag: str = ""
    """The name on the command line, if it differs from the name in Python."""
    check_request: Callable[[Any], None] | None = None
    """For values that can name files: raises `OptionsError` if one does. See `DeclaredOptions.from_request`."""
    placeholder: str = ""
    """For text: an example of a value, for controls and error messages."""
    infotext: str = ""
    """The name in the parameters that A1111 writes into an image. Empty: it is not written."""
    front_ends: frozenset[str] = FRONT_ENDS
    """The front ends that offer it. Only the command line and Python offer options that name files."""
    host_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of front ends that differ from the default in Python."""
    is_advanced: bool = False
    """Whether front ends hide it at first."""
    on_device: bool = True
    """Whether the GPU can composite faces with values other than the default. If not, the CPU does."""
    weights: Callable[[Any], tuple[str, ...]] = lambda value: ()
    """Returns the additional weights that a value needs, such as `FACE_PARSER`."""

    @property
    def is_whole(self) -> bool:
        return isinstance(self.step, int)

    @property
    def label_with_unit(self) -> str:
        """The label and the unit: `Min face size (px)`."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def range_text(self) -> str:
        """The range: `0 to 1`, `64 to 8192 px`, `0 s or more`. Empty if there is none."""
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is None:
            return ""
        return f"{self.minimum:g}{unit} or more" if self.maximum is None else f"{self.minimum:g} to {self.maximum:g}{unit}"

    def validate(self, name: str, value: Any, default: Any) -> Any:
        """Check a value and return it as a type of Python, not of NumPy. Raises `OptionsError`."""
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
    """Parse several of `choices`, given as a sequence or as text with commas. Return each once, in the order of `choices`.

    Raises `OptionsError`."""
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
    """Whether the value is finite as a float, which cannot hold 10**400. Whole numbers have no limit."""
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


def declare(default: Any, label: str, help_: str, group: str, **spec: Any) -> Any:
    """Return a dataclass field with an `OptionSpec`."""
    return field(default=default, metadata={"spec": OptionSpec(help_, label, group, **spec)})


@dataclass(frozen=True)
class Option:
    """A declared option of `RestoreOptions` or `VideoOptions`."""

    name: str
    default: Any
    spec: OptionSpec

    @property
    def flag(self) -> str:
        """The name on the command line, without dashes in front: `min-face-size`."""
        return self.spec.flag or self.name.replace("_", "-")

    def default_for(self, front_end: str) -> Any:
        return self.spec.host_defaults.get(front_end, self.default)


class DeclaredOptions:
    """Base class of dataclasses whose fields are options. It validates each field by its declaration."""

    def __repr__(self) -> str:
        """List the options that are not at their default."""
        changed = ", ".join(f"{option.name}={value!r}" for option, value in changed_options(self))
        return f"{type(self).__name__}({changed})"

    def __post_init__(self) -> None:
        for option in declared_options(type(self)):
            value = option.spec.validate(option.name, getattr(self, option.name), option.default)
            object.__setattr__(self, option.name, value)

    @classmethod
    def or_default(cls: type[Declared], options: object | None) -> Declared:
        """Return the options, or the defaults for None. Raises `OptionsError` for anything else, such as a dict."""
        if options is None:
            return cls()
        if not isinstance(options, cls):
            first = declared_options(cls)[0]
            raise OptionsError(
                f"Expected {cls.__name__}, got {type(options).__name__}. Pass options by name: "
                f"{cls.__name__}({first.name}={first.default!r})."
            )
        return options

    @classmethod
    def from_mapping(cls: type[Declared], values: Mapping[str, Any]) -> Declared:
        """Return options with these values by name. Other keys are ignored. Raises `OptionsError`."""
        names = {option.name for option in declared_options(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    @classmethod
    def from_request(cls: type[Declared], values: Mapping[str, Any]) -> Declared:
        """Do the same as `from_mapping` with values from a request, a graph or an image, which must not name files.

        Raises `OptionsError`."""
        for option in declared_options(cls):
            if option.spec.check_request is not None and option.name in values:
                option.spec.check_request(values[option.name])
        return cls.from_mapping(values)


def declared_options(kind: type, front_end: str | None = None, *groups: str) -> list[Option]:
    """Return the options of `RestoreOptions` or `VideoOptions` in the order of their declaration.

    With `front_end`, only those that it offers. With `groups`, only those of these groups."""
    options = (Option(one.name, one.default, one.metadata["spec"]) for one in fields(kind))
    return [
        one
        for one in options
        if (front_end is None or front_end in one.spec.front_ends) and (not groups or one.spec.group in groups)
    ]


def changed_options(options: Any) -> Iterator[tuple[Option, Any]]:
    """Yield the options that are not at their default, each with its value."""
    for option in declared_options(type(options)):
        value = getattr(options, option.name)
        if value != option.default:
            yield option, value


def required_weights(options: DeclaredOptions) -> frozenset[str]:
    """Return the weights that these options need besides network and detector, such as `FACE_PARSER`."""
    return frozenset(
        name for option in declared_options(type(options)) for name in option.spec.weights(getattr(options, option.name))
    )


def supported_on_device(options: DeclaredOptions) -> bool:
    """Whether the GPU can composite faces with these options."""
    return all(option.spec.on_device for option, _ in changed_options(options))
