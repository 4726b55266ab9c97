"""A network on an UltraScale+ board, from the board's own processor, through the `pynq` package.

Registers and words are those of docs/reference/axi.md. Needs numpy, and `pynq` only where no `allocate` is given; the
simulated overlay (`apical.sim.overlay`) takes the same calls. Not run on silicon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from apical.sw.axi_map import VERSION, AxiMap, Source
from apical.sw.axi_weights import Site, Store
from apical.sw.axi_words import LABEL, Slots, StreamError
from apical.sw.geometry import IntArray
from apical.sw.trace import Trace

ID = 0x4150434C
STOPPING = ("MALFORMED", "INDEX", "VALUE", "FRAMING", "ACCESS")  # the others are news, not failures
DMA_RESET, DMA_BYTES = 4, (1 << 26) - 1  # bit of the AXI DMA's first register; its longest transfer


class DriverError(RuntimeError):
    """The hardware, or what was asked of it, isn't as expected; the message says what was seen."""


class WrongDesign(DriverError):
    """The device carries something else than `registers.json` describes; trying again can't help."""


class Accelerator:
    """A loaded overlay with a network in it.

    :param overlay: `pynq.Overlay`, or what behaves like one.
    :param registers: the design's `registers.json`, as a path or as its content.
    :param identity: of the network that the caller means (`apical.sw.bundle.identity`); None: whatever is in there.
    :param core, dma: names of the two IPs in the block design.
    :param allocate: `pynq.allocate` unless given.
    :param timeout_s: how long nothing may happen.
    :raises MapError: the file. :raises WrongDesign: another design on the device.
    """

    def __init__(
        self,
        overlay: Any,
        registers: Source,
        *,
        identity: str | None = None,
        core: str = "accelerator",
        dma: str = "dma",
        allocate: Callable[..., Any] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self.map, self.timeout_s = AxiMap.read(registers), timeout_s
        if identity is not None and identity != self.map.identity:
            raise WrongDesign(f"expected registers.json of network {identity}, got one of {self.map.identity}")
        for name in (core, dma):
            if not hasattr(overlay, name):
                there = sorted(getattr(overlay, "ip_dict", ()))
                raise WrongDesign(f"overlay: expected an IP named {name!r}, got {there}")
        self._core, self._dma = getattr(overlay, core), getattr(overlay, dma)
        self._allocate = allocate or _pynq_allocate()
        self._endless = False
        self._check()
        self.reset()

    # Registers.

    def read(self, register: str, field: str | None = None) -> int:
        """A register, or a field of it."""
        value = int(self._core.read(self.map.addresses[register]))
        return value if field is None else self.map.get(register, field, value)

    def write(self, register: str, value: int) -> None:
        """Write a register. What the page calls an access with SLVERR is a bus error for the processor: avoid it."""
        self._core.write(self.map.addresses[register], value)

    def _check(self) -> None:
        """Is it the design that registers.json describes?"""
        have = {name: self.read(name) for name in ("ID", "VERSION")}
        if have["ID"] != ID:
            raise WrongDesign(
                f"expected an apical AXI system (0x{ID:08x} at its first register), got 0x{have['ID']:08x}; is the "
                "overlay loaded, and are the core's name and address right?"
            )
        if have["VERSION"] != VERSION:
            raise WrongDesign(f"expected version {VERSION} of the registers, the device has {have['VERSION']}")
        carried = f"{self.read('IDENTITY_HIGH'):08x}{self.read('IDENTITY_LOW'):08x}"
        if carried != self.map.identity:
            raise WrongDesign(f"expected the design of network {self.map.identity}, the device carries {carried}")
        wanted, got = self.map.constants["MAP"], self.read("MAP")
        if wanted != got:
            raise WrongDesign(
                f"the device carries network {carried}, but built with other options: expected map {wanted:08x}, got "
                f"{got:08x}; take the registers.json that was written with this bitstream"
            )

    def errors(self, clear: bool = False) -> tuple[str, ...]:
        """Names of the sticky errors (register ERRORS); `clear` those that were seen."""
        value = self.read("ERRORS")
        if clear and value:
            self.write("ERRORS", value)
        return self.map.names("ERRORS", value)

    def interrupts(self, clear: bool = True) -> tuple[str, ...]:
        """Names of the pending interrupts: a sample came out, an error was set."""
        value = self.read("INTERRUPT_PENDING")
        if clear and value:
            self.write("INTERRUPT_PENDING", value)
        return self.map.names("INTERRUPT_PENDING", value)

    @property
    def busy(self) -> bool:
        """A sample is under way."""
        return bool(self.read("STATUS", "BUSY"))

    def counters(self) -> dict[str, int]:
        """A snapshot of all counters: events since the last reset, modulo 2^32."""
        self.write("COMMAND", self.map.fields["COMMAND"]["SNAPSHOT"].mask)
        return {name: self.read(f"COUNTER{n}") for n, name in enumerate(self.map.counters)}

    @property
    def operating_point(self) -> int:
        """Of the gates' thresholds; 0 where there is one only."""
        return self.read("POINT") if "POINT" in self.map.addresses else 0

    @operating_point.setter
    def operating_point(self, point: int) -> None:
        points = self.map.get("FEATURES", "POINTS", self.map.constants["FEATURES"])
        if not 0 <= point < points:
            raise DriverError(f"operating point: expected 0 to {points - 1}, got {point}")
        if points > 1:
            self._idle("operating point")
            self.write("POINT", point)

    def reset(self) -> None:
        """Begin anew from whatever happened: nothing under way, counters 0, no errors. Weights stay."""
        control, soft = self.map.fields["CONTROL"], self.map.fields["COMMAND"]["SOFT_RESET"].mask
        self.write("CONTROL", control["ENABLE"].mask | control["FLUSH"].mask)
        self._restart_dma()
        rest = self._allocate(shape=(8, self.map.outputs.slots), dtype=self.map.outputs.dtype)
        self._dma.recvchannel.transfer(rest)  # a packet under way gets its end by the reset: it goes here
        self.write("COMMAND", soft)
        # Twice: STATUS is 0 for a cycle between the reset and the end of a packet that it cut.
        self._until(lambda: not any(self.read("STATUS") for _ in range(2)), "the reset")
        self._restart_dma()
        self.errors(clear=True)
        self.interrupts(clear=True)
        self.write("FRAMING", 0)
        self.write("CONTROL", control["ENABLE"].mask)
        self._endless = False

    def _restart_dma(self) -> None:
        self._dma.write(0, DMA_RESET)
        self._until(lambda: not self._dma.read(0) & DMA_RESET, "the DMA's reset")
        self._dma.sendchannel.start()
        self._dma.recvchannel.start()

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise DriverError(f"{what}: expected an end within {self.timeout_s:g} s; {self._seen()}")

    def _idle(self, what: str) -> None:
        if self._endless:
            raise DriverError(f"{what}: expected no endless stream under way; reset() ends it")
        self._until(lambda: not self.busy, what)

    def _seen(self) -> str:
        status = " ".join(self.map.names("STATUS", self.read("STATUS"))) or "idle"
        return (
            f"seen: STATUS {status}, ERRORS {' '.join(self.errors()) or 'none'}, samples in "
            f"{self.read('SAMPLES_IN')}, out {self.read('SAMPLES_OUT')}"
        )

    # Streams.

    def exchange(self, words: Slots, packets: int, room: int) -> list[Slots]:
        """Send words as one packet and take as many packets as come of it.

        :param words: slots, [words, slots] (`AxiMap.inputs.encode`). :param room: words of the longest packet out.
        :raises DriverError: sticky errors, by name; silence; a DMA that failed. The driver has reset the design then.
        """
        send = self._allocate(shape=words.shape, dtype=self.map.inputs.dtype)
        send[:] = words
        take = self._allocate(shape=(room, self.map.outputs.slots), dtype=self.map.outputs.dtype)
        out: list[Slots] = []
        try:
            for n in range(packets):
                self._dma.recvchannel.transfer(take)
                if n == 0:
                    self._dma.sendchannel.transfer(send)
                self._finished(self._dma.recvchannel, f"packet {n} of {packets}")
                size = self._dma.recvchannel.transferred // (self.map.outputs.data_bits // 8)
                out.append(np.array(take[:size]))
            self._finished(self._dma.sendchannel, "the words sent")
        except BaseException:
            with suppress(DriverError):
                self.reset()
            raise
        return out

    def _finished(self, channel: Any, what: str) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not channel.idle:
            if bad := [name for name in self.errors() if name in STOPPING]:
                says = "; ".join(f"{name}: {self.map.fields['ERRORS'][name].meaning}" for name in bad)
                raise DriverError(f"{what}: the design stopped: {says}; {self._seen()}")
            if getattr(channel, "error", False):
                raise DriverError(f"{what}: the DMA failed (a packet too long, or no memory); {self._seen()}")
            if time.monotonic() > deadline:
                raise DriverError(f"{what}: expected within {self.timeout_s:g} s, got nothing; {self._seen()}")
        channel.wait()

    def _room(self, ticks: int) -> int:
        slots = sum(p.size for p in self.map.outputs.ports) + 1
        return ticks * -(-slots // self.map.outputs.slots) + 1

    def _parts(self, x: npt.ArrayLike, rank: int) -> tuple[IntArray, list[IntArray]]:
        """Input checked, and cut into its ports' parts along the last axis."""
        ports = self.map.ports
        x, width = np.asarray(x), sum(p.size for p in ports)
        if x.dtype.kind not in "iub" or x.ndim != rank or x.shape[-1] != width or 0 in x.shape:
            names = ["samples", "ticks"][2 - (rank - 1) :]
            raise DriverError(f"input: expected integers [{', '.join(names)}, {width}], got {x.dtype} {list(x.shape)}")
        return x, np.split(x.astype(np.int64), np.cumsum([p.size for p in ports])[:-1], axis=-1)

    def _encode(self, parts: Sequence[IntArray], **how: Any) -> Slots:
        names = [p.name for p in self.map.ports]
        try:
            return self.map.inputs.encode(dict(zip(names, parts, strict=True)), **how)
        except StreamError as error:
            raise DriverError(f"input: {error}") from None

    def _decode(self, words: Slots, ticks: int, *, ended: bool = True) -> dict[str, IntArray]:
        try:
            values, finals = self.map.outputs.decode(words)
        except StreamError as error:
            raise DriverError(f"output: {error}") from None
        got = len(next(iter(values.values())))
        if got != ticks or finals.tolist() != ([ticks - 1] if ended else []):
            raise DriverError(f"output: expected {ticks} ticks, got {got}, samples that end at ticks {finals.tolist()}")
        return values

    def run(self, x: npt.ArrayLike, *, batch: int = 64) -> Trace:
        """Run samples [samples, ticks, inputs]: outputs, and what the counters counted.

        :param batch: samples that are sent as one DMA transfer, fewer where they are long.
        :raises DriverError: input that doesn't fit; sticky errors; silence.
        """
        _, parts = self._parts(x, 3)
        return self._samples(parts, [{}] * len(parts[0]), batch)

    def learn(self, x: npt.ArrayLike, labels: npt.ArrayLike, *, batch: int = 64) -> Trace:
        """Learn from samples [samples, 1, inputs] and their classes: outputs before learning, counters.

        :raises DriverError: a design that doesn't learn, or as `run`.
        """
        if not self.map.learns:
            raise DriverError("learn: expected a learning design, this one's weights don't change")
        _, parts = self._parts(x, 3)
        given, most = np.asarray(labels), self.map.inputs.ports[-1].size
        if given.dtype.kind not in "iu" or given.shape != parts[0].shape[:1] or given.min() < 0 or given.max() >= most:
            raise DriverError(f"labels: expected {len(parts[0])} of 0 to {most - 1}, got {given.dtype} {given.shape}")
        self._idle("learn")
        self.write("LEARN", 1)
        try:
            return self._samples(parts, [{LABEL: int(n)} for n in given], batch)
        finally:
            with suppress(DriverError):
                self._idle("learn")
            self.write("LEARN", 0)

    def _samples(self, parts: list[IntArray], more: list[dict[str, int]], batch: int) -> Trace:
        self._idle("run")
        began, ticks = time.perf_counter(), parts[0].shape[1]
        words = [self._encode([p[n] for p in parts], **how) for n, how in enumerate(more)]
        outputs: list[dict[str, IntArray]] = []
        counters, before = dict.fromkeys(self.map.counters, 0), self.counters()
        while words:
            sizes = np.cumsum([w.nbytes for w in words[:batch]])
            n = max(1, int((sizes <= DMA_BYTES).sum()))
            packets = self.exchange(np.concatenate(words[:n]), n, self._room(ticks))
            outputs += [self._decode(p, ticks) for p in packets]
            del words[:n]
            self._idle("run")
            now = self.counters()
            for name, value in now.items():
                counters[name] += (value - before[name]) % (1 << 32)
            before = now
        joined = {p.name: np.stack([o[p.name] for o in outputs]) for p in self.map.outputs.ports}
        return Trace(dict(joined), joined, counters, seconds=time.perf_counter() - began, engine="board")

    def push(self, events: npt.ArrayLike) -> IntArray:
        """The next ticks of an endless stream; the first call begins one, `reset` ends it.

        :param events: [ticks, inputs]. :returns: [ticks, outputs], in the network's order of outputs.
        :raises DriverError: as `run`; after a failure the next call begins anew.
        """
        _, parts = self._parts(events, 2)
        if not self._endless:
            self.reset()
            self.write("FRAMING", self.map.fields["FRAMING"]["OUT_TICKS"].mask)
            self._endless = True
        ticks = len(parts[0])
        packets = self.exchange(self._encode(parts, endless=True), ticks, self._room(1))
        values = [self._decode(p, 1, ended=False) for p in packets]
        return np.concatenate([np.concatenate(list(v.values()), axis=1) for v in values])

    # Weights.

    def _site(self, site: Site | Store) -> npt.NDArray[np.uint32]:
        self._idle("weights")
        self.write("SITE", site.number)
        count = site.rows * site.chunks
        return np.array([self.read("DATA") for _ in range(count)], np.uint32).reshape(site.rows, site.chunks)

    def load_weights(self, weights: Any) -> None:
        """Load weights and read them back.

        :param weights: by projection, or a network (`.projections`); of the same shapes and bits as the design's.
        :raises DriverError: a design that can't, other projections, shapes or values; other weights read than written.
        """
        if not isinstance(weights, Mapping):
            weights = {q.name: q.weights for q in weights.projections if q.pattern != "pool"}
        sites = {s.projection: s for s in self.map.sites if isinstance(s, Site)}
        if not sites:
            raise DriverError("weights: expected a design with writable weights, this one's are fixed")
        if set(weights) != set(sites):
            raise DriverError(f"weights: expected projections {sorted(sites)}, got {sorted(weights)}")
        try:
            images = {name: site.image(np.asarray(weights[name])) for name, site in sites.items()}
        except ValueError as error:
            raise DriverError(f"weights: {error}") from None
        for name, site in sites.items():
            self._idle("weights")
            self.write("SITE", site.number)
            for value in images[name].reshape(-1).tolist():
                self.write("DATA", value)
            if (bad := np.argwhere(self._site(site) != images[name])).size:
                raise DriverError(f"weights of {name!r}: row {bad[0][0]} reads other than written ({len(bad)} chunks)")

    def read_weights(self) -> dict[str, IntArray]:
        """The weights of now, by projection, each of its own shape; needs a writable or learning design."""
        return {s.projection: s.weights(self._site(s)) for s in self.map.sites if isinstance(s, Site)}

    def read_stores(self) -> dict[tuple[str, str], IntArray]:
        """What else a learning design keeps: ``errors``, ``threshold``, ``samples`` and of what; [size] each."""
        stores = [s for s in self.map.sites if isinstance(s, Store)]
        return {(s.what, s.of): self._site(s).reshape(-1)[: s.size].view(np.int32).astype(np.int64) for s in stores}


def _pynq_allocate() -> Callable[..., Any]:
    from pynq import allocate  # type: ignore[import-not-found]

    made: Callable[..., Any] = allocate
    return made
