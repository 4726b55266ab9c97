"""What a neuron law is: its base class, formats, parameters, and the register of laws.

A law is written once, in the integer operations of `apical.sw.arithmetic`. It is a frozen dataclass; its fields are the
options that a bundle stores, its docstring its equations. From `step` come the training module, the golden model, the
hardware and the width proof.

To add a law, subclass `Law`, decorate with `@register`, write `step`. See docs/how-to/add-a-neuron.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from apical.sw.arithmetic import Ops, V


@dataclass(frozen=True)
class Format:
    """A fixed-point or integer storage format of `bits` bits (two's complement where signed)."""

    bits: int
    signed: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 48:
            raise ValueError(f"format: expected 1 to 48 bits, got {self.bits}")

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest value."""
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law, shared by the population or one per neuron.

    :param low, high: bounds of the integer.
    :param unit: how training scales it: ``current`` (in accumulator units), ``fraction`` (a factor in [0, 1] with
        `fraction_bits`) or ``integer`` (fixed, not trained).
    :param initial: value before training, in real units (threshold 1.0 = one real threshold).
    :param complement_power: admits only values v whose complement 2^fraction_bits - v is 0 or a power of two.
    """

    low: int
    high: int
    unit: Literal["current", "fraction", "integer"] = "current"
    initial: float = 0.0
    fraction_bits: int = 0
    complement_power: bool = False

    @property
    def levels(self) -> tuple[int, ...] | None:
        """Admitted values in ascending order; None where all from `low` to `high` are."""
        if not self.complement_power:
            return None
        one = 1 << self.fraction_bits
        return (*(one - (1 << n) for n in reversed(range(self.fraction_bits + 1))), one)


class Law:
    """Base of all laws. Subclasses are frozen dataclasses decorated with `register`."""

    name: ClassVar[str]
    compartments: ClassVar[tuple[str, ...]] = ("basal",)
    # Options younger than the first bundles: left out of a bundle at this default, so that identities stay.
    added: ClassVar[Mapping[str, Any]] = {"leak": "multiply", "modulation": "mcc"}

    @property
    def gain(self) -> int:
        """By what `step` multiplies its currents: training divides the weights' scale by it."""
        return 1

    @property
    def counts(self) -> bool:
        """True where it sends a number of spikes, so that every neuron may have a scale of its own."""
        return self.value_range() == (0, 1)

    def states(self) -> dict[str, Format]:
        """Stored state variables and their formats; empty for a stateless law."""
        return {}

    def parameters(self) -> dict[str, Parameter]:
        """Parameters that `step` reads."""
        return {}

    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that `step` returns; (0, 1) for spikes."""
        raise NotImplementedError

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        """One tick of one neuron: new state and the value to send (zero is not sent)."""
        raise NotImplementedError

    def slopes(self, ops: Ops[V], currents: Mapping[str, V], params: Mapping[str, V]) -> Mapping[str, V | int] | None:
        """By compartment a power of two times the value's derivative, for a neuron that sends something.

        Learning on the chip needs it (docs/reference/plasticity.md). None where the law has none.
        """
        return None

    def options(self) -> dict[str, Any]:
        """The law's fields, as a bundle stores them; `added` ones only where they differ from their default."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in given.items() if name not in self.added or self.added[name] != value}

    def __post_init__(self) -> None:
        """Check each option's type and, for literals, its value; subclasses check ranges by `_between`."""
        hints = get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            given, hint = getattr(self, f.name), hints[f.name]
            choices = get_args(hint)
            if choices and given not in choices:
                raise ValueError(f"law {self.name}: option {f.name}: expected one of {choices}, got {given!r}")
            if hint in (int, bool) and type(given) is not hint:
                raise ValueError(f"law {self.name}: option {f.name}: expected {hint.__name__}, got {given!r}")
        self.check()

    def check(self) -> None:
        """Range checks of the options; raises ValueError."""

    def _between(self, option: str, low: int, high: int) -> None:
        given = getattr(self, option)
        if not low <= given <= high:
            raise ValueError(f"law {self.name}: option {option}: expected {low} to {high}, got {given}")


LAWS: dict[str, type[Law]] = {}
L = TypeVar("L", bound=type[Law])


def register(cls: L) -> L:
    """Make a law known by its name to bundles and the command line."""
    known = LAWS.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ValueError(f"law {cls.name!r} is registered already by {known.__module__}.{known.__qualname__}")
    LAWS[cls.name] = cls
    return cls


def make_law(name: str, options: Mapping[str, Any]) -> Law:
    """Build a law from its stored name and options.

    :raises ValueError: unknown law or option, or an option out of range.
    """
    if name not in LAWS:
        raise ValueError(f"unknown law {name!r}; known: {', '.join(sorted(LAWS))}")
    known = {f.name for f in fields(LAWS[name])}  # type: ignore[arg-type]
    if unknown := sorted(set(options) - known):
        raise ValueError(f"law {name}: unknown option {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return LAWS[name](**options)
