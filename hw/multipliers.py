"""The multipliers of a generated design, and which of their operands are constant: read from its RTLIL.

A constant is followed through wires and registers within its module. A multiplication by a constant power of two is a
shift and must not be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from apical.hw.design import HardwareOptions
from apical.hw.verilog import generate_rtlil
from apical.sw.network import Network

Bit = tuple[str, int] | str  # a wire's bit, or "0", "1", or "x" for what is undefined

_TOKEN = re.compile(r"\{|\}|\[\d+(?::\d+)?\]|\d+'[01xzm-]*|[\\$]\S+|-?\d+")
_FOLLOWED = 64  # registers and wires that a constant may pass


class RtlilError(ValueError):
    """Text that isn't RTLIL as Amaranth writes it."""


@dataclass(frozen=True)
class Multiplier:
    """One `$mul` cell.

    :param widths: bits of both operands and of the product.
    :param constants: the operands' values where they are constant (unsigned), else None.
    """

    module: str
    widths: tuple[int, int, int]
    constants: tuple[int | None, int | None]

    @property
    def by_power(self) -> bool:
        """An operand is a constant power of two (or 0): no multiplier is needed."""
        return any(c is not None and c & (c - 1) == 0 for c in self.constants)


@dataclass
class _Module:
    name: str
    widths: dict[str, int] = field(default_factory=dict)
    driver: dict[tuple[str, int], Bit] = field(default_factory=dict)
    cells: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def bits(self, text: str) -> list[Bit]:
        """Bits of a signal, lowest first."""
        tokens = _TOKEN.findall(text)
        return self._take(tokens)

    def _take(self, tokens: list[str]) -> list[Bit]:
        token = tokens.pop(0)
        out: list[Bit]
        if token == "{":
            parts = []
            while tokens[0] != "}":
                parts.append(self._take(tokens))
            tokens.pop(0)
            out = [bit for part in reversed(parts) for bit in part]
        elif "'" in token and token[0].isdigit():
            digits = token.partition("'")[2]
            out = list(reversed(digits.rjust(int(token.partition("'")[0]), "0")))
        elif token[0] in "\\$":
            if token not in self.widths:
                raise RtlilError(f"module {self.name}: expected a wire, got {token!r}")
            out = [(token, n) for n in range(self.widths[token])]
        else:
            out = list(reversed(f"{int(token) & 0xFFFFFFFF:032b}"))
        while tokens and tokens[0].startswith("["):
            high, _, low = tokens.pop(0)[1:-1].partition(":")
            out = out[int(low or high) : int(high) + 1]
        return out

    def connect(self, to: str, what: str) -> None:
        """What drives a signal."""
        for target, source in zip(self.bits(to), self.bits(what), strict=True):
            if isinstance(target, tuple):
                self.driver[target] = source

    def constant(self, text: str) -> int | None:
        """The signal's value where every bit is constant (or there is none)."""
        digits = [self._value(bit) for bit in self.bits(text)]
        return int("0" + "".join(reversed(digits)), 2) if set(digits) <= {"0", "1"} else None

    def _value(self, bit: Bit) -> str:
        for _ in range(_FOLLOWED):
            if isinstance(bit, str):
                return bit
            bit = self.driver.get(bit, "x")
        return "x"


def _cells(lines: Sequence[str], at: int) -> tuple[dict[str, str], int]:
    """Ports and parameters of the cell that begins before line `at`, and the line after its end."""
    found = {}
    while lines[at].strip() != "end":
        words = lines[at].split(maxsplit=2)
        if len(words) == 3 and words[0] in ("connect", "parameter"):
            found[words[1]] = words[2]
        at += 1
    return found, at + 1


def _modules(rtlil: str) -> Iterator[_Module]:
    module: _Module | None = None
    connects: list[tuple[str, str]] = []
    lines, at = rtlil.splitlines(), 0
    while at < len(lines):
        words = lines[at].split()
        at += 1
        if not words:
            continue
        if words[0] == "module":
            module, connects = _Module(words[1]), []
        elif module is None:
            continue
        elif words[0] == "wire":
            width = int(words[words.index("width") + 1]) if "width" in words else 1
            module.widths[words[-1]] = width
        elif words[0] == "cell":
            ports, at = _cells(lines, at)
            module.cells.append((words[1], ports))
        elif words[0] == "connect":
            sides = re.fullmatch(r"\s*connect ((?:\{[^}]*\}|\S+)(?: \[\d+(?::\d+)?\])*) (.+)", lines[at - 1])
            if sides is None:
                raise RtlilError(f"module {module.name}: can't read {lines[at - 1].strip()!r}")
            connects.append((sides[1], sides[2]))
        elif words == ["end"] and lines[at - 1] == "end":
            for to, what in connects:
                module.connect(to, what)
            for kind, ports in module.cells:
                if kind == "$dff":
                    module.connect(ports["\\Q"], ports["\\D"])
            yield module
            module = None


def multipliers(rtlil: str) -> list[Multiplier]:
    """Every `$mul` cell of a design.

    :raises RtlilError: not such a text.
    """
    out = []
    for module in _modules(rtlil):
        for kind, ports in module.cells:
            if kind == "$mul":
                a, b, y = (int(ports[f"\\{p}_WIDTH"]) for p in "ABY")
                constants = (module.constant(ports["\\A"]), module.constant(ports["\\B"]))
                out.append(Multiplier(module.name, (a, b, y), constants))
    return out


def of_network(network: Network, options: HardwareOptions) -> list[Multiplier]:
    """Every multiplier of a network's hardware, before synthesis."""
    return multipliers(generate_rtlil(network, options))
