"""Top level of a board: clock, serial line, protocol and accelerator.

Ports: `clk`, `rx`, `tx`, `led0` …: the clock runs, an error is waiting, traffic, the accelerator holds input back.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, ResetInserter, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from apical.hw.accelerator import Accelerator
from apical.hw.boards import Board, Pin
from apical.hw.design import HardwareOptions
from apical.hw.link import BUFFER_BYTES, AnswerSender, FrameBuffer, RecordReader, RecordWriter
from apical.hw.uart import FrameWriter, Receiver, Transmitter, divisor_of
from apical.hw.verilog_text import convert_rtlil
from apical.sw.bundle import identity
from apical.sw.network import Network
from apical.sw.uart_frames import COUNTERS, HELLO, RESET, counter_names, input_formats, output_formats

_RESET_CYCLES = 16


class LinkedAccelerator(wiring.Component):  # type: ignore[misc]
    """The accelerator behind the serial protocol: `rx`, `tx` and three lamps.

    :param divisor: clock cycles per bit.
    :param buffer_bytes: room for data frames, a power of two.
    """

    def __init__(
        self, network: Network, options: HardwareOptions, divisor: int, buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        if max(len(network.inputs), len(network.outputs)) > 32:
            raise ValueError(f"serial protocol: expected at most 32 inputs and outputs, got {len(network.inputs)}")
        for name in (*(i.name for i in network.inputs), *network.outputs):
            if network.nodes[name].shape is not None:
                raise ValueError(
                    f"serial protocol: expected flat inputs and outputs, got a map, {name!r}; not done yet"
                )
        self.network, self.divisor, self.buffer_bytes = network, divisor, buffer_bytes
        self.accelerator = Accelerator(network, options)
        super().__init__(
            {"rx": In(1, init=1), "tx": Out(1, init=1), "failed": Out(1), "traffic": Out(1), "stalled": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        acc, network = self.accelerator, self.network
        clear, clearing = Signal(), Signal(range(_RESET_CYCLES + 1))
        inputs, outputs = input_formats(network), output_formats(network)
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        writer, buffer = FrameWriter(), FrameBuffer(self.buffer_bytes)
        reader = RecordReader(inputs, [acc.layouts[f.name] for f in inputs])
        sender = AnswerSender(bytes.fromhex(identity(network)), len(acc.counters), self.buffer_bytes)
        writers = [RecordWriter(o, f, acc.layouts[f.name]) for o, f in enumerate(outputs)]
        for name, part in {"writer": writer, "buffer": buffer, "reader": reader, "sender": sender, "core": acc}.items():
            m.submodules[name] = ResetInserter(clear)(part)
        m.d.comb += clear.eq(clearing != 0)
        with m.If(clear):
            m.d.sync += clearing.eq(clearing - 1)

        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            buffer.data.eq(receiver.data),
            buffer.strobe.eq(receiver.strobe),
            buffer.broken.eq(receiver.broken),
            self.traffic.eq(receiver.strobe | transmitter.bytes.valid),
            self.stalled.eq(buffer.bytes.valid & ~buffer.bytes.ready),
        ]
        wiring.connect(m, writer.bytes, transmitter.bytes)
        wiring.connect(m, buffer.bytes, reader.bytes)
        wiring.connect(m, sender.tokens, writer.tokens)
        for i in range(len(inputs)):
            wiring.connect(m, getattr(reader, f"event{i}"), acc.inputs[i])
        for o, w in enumerate(writers):
            m.submodules[f"record{o}"] = ResetInserter(clear)(w)
            wiring.connect(m, acc.outputs[o], w.events)
        self._merge(m, [w.bytes for w in writers], sender.records, clear)
        for i, name in enumerate(counter_names(network)):
            m.d.comb += sender.counters[i].eq(acc.counters[name])
        self._answers(m, buffer, reader, sender, clear, clearing)
        m.d.comb += self.failed.eq(buffer.stopped)
        return m

    @staticmethod
    def _merge(m: Module, sources: list[wiring.PureInterface], sink: wiring.PureInterface, clear: Signal) -> None:
        """Whole records of several outputs in turn."""
        turn = Signal(range(len(sources)))
        inside = Signal()
        for o, source in enumerate(sources):
            with m.If(turn == o):
                m.d.comb += [sink.valid.eq(source.valid), sink.payload.eq(source.payload), source.ready.eq(sink.ready)]
        with m.If(sink.valid & sink.ready):
            m.d.sync += inside.eq(~sink.payload.end)
        ended = sink.valid & sink.ready & sink.payload.end
        with m.If(ended | (~inside & ~sink.valid)):
            m.d.sync += turn.eq(0)
            with m.If(turn != len(sources) - 1):
                m.d.sync += turn.eq(turn + 1)
        with m.If(clear):
            m.d.sync += [turn.eq(0), inside.eq(0)]

    @staticmethod
    def _answers(
        m: Module, buffer: FrameBuffer, reader: RecordReader, sender: AnswerSender, clear: Signal, clearing: Signal
    ) -> None:
        """Levels that ask for answers, the sticky error, and the reset command."""
        code, consumed = Signal(3), Signal(8)
        asks = {a: Signal(name=f"ask_{a}") for a in AnswerSender.ASKS}
        for name, ask in asks.items():
            m.d.comb += getattr(sender, f"ask_{name}").eq(ask & ~clear)
            with m.If(getattr(sender, f"sent_{name}")):
                m.d.sync += ask.eq(0)
        m.d.comb += [
            buffer.stopped.eq(code != 0),
            sender.error_code.eq(code),
            sender.expected.eq(buffer.expected),
            sender.acked.eq(consumed - 1),
        ]
        bad_record = Signal()
        m.d.sync += bad_record.eq(reader.error)
        with m.If(buffer.error | (reader.error & ~bad_record) | buffer.dropped):
            m.d.sync += asks["error"].eq(1)
            with m.If(code == 0):
                m.d.sync += code.eq(5)
                with m.If(buffer.error):
                    m.d.sync += code.eq(buffer.error_code)
        with m.If(reader.frame_done):
            m.d.sync += [consumed.eq(consumed + 1), asks["ack"].eq(1)]
        with m.If(clear):
            m.d.sync += [code.eq(0), consumed.eq(0), bad_record.eq(0)]
            m.d.sync += [ask.eq(0) for name, ask in asks.items() if name != "reset"]
        with m.If(buffer.command):
            with m.If(buffer.kind == HELLO):
                m.d.sync += asks["hello"].eq(1)
            with m.If(buffer.kind == COUNTERS):
                m.d.sync += asks["counters"].eq(1)
            with m.If(buffer.kind == RESET):
                m.d.sync += [asks["reset"].eq(1), clearing.eq(_RESET_CYCLES)]


@dataclass(frozen=True)
class PllSettings:
    """EHXPLLL dividers with the feedback from CLKOP: f = f_in / input · feedback; VCO = f · output."""

    input: int
    feedback: int
    output: int
    frequency_mhz: float


def pll_settings(clock_mhz: float, wanted_mhz: float) -> PllSettings:
    """The nearest frequency that the PLL makes, and its dividers.

    Limits: phase detector 3.125 to 400 MHz, VCO 400 to 800 MHz, dividers 1 to 128, feedback 1 to 80 (Lattice
    FPGA-DS-02012, sysCLOCK PLL timing; FPGA-TN-02200).
    :raises ValueError: nothing within 2 % of what was wanted.
    """
    best: PllSettings | None = None
    for divide in range(1, 129):
        detector = clock_mhz / divide
        if not 3.125 <= detector <= 400:
            continue
        feedback = max(1, min(80, round(wanted_mhz / detector)))
        f = detector * feedback
        output = round(600 / f)  # the middle of the VCO's range
        if not 1 <= output <= 128 or not 400 <= f * output <= 800:
            continue
        if best is None or abs(f - wanted_mhz) < abs(best.frequency_mhz - wanted_mhz) - 1e-9:
            best = PllSettings(divide, feedback, output, f)
    if best is None or abs(best.frequency_mhz / wanted_mhz - 1) > 0.02:
        got = f"{best.frequency_mhz:.2f} MHz" if best else "none"
        raise ValueError(
            f"clock: expected a frequency that the PLL makes from {clock_mhz:g} MHz, got {wanted_mhz:g} MHz; "
            f"nearest: {got}"
        )
    return best


class BoardTop(wiring.Component):  # type: ignore[misc]
    """The board's top level on an ECP5 or iCE40.

    :param frequency_mhz: clock of the design; another than the board's goes through the PLL (ECP5 only).
    :raises ValueError: a clock or baud rate that can't be made.
    """

    def __init__(
        self, network: Network, options: HardwareOptions, board: Board, frequency_mhz: float | None, baud: int | None
    ) -> None:
        if board.clock is None or board.uart is None:
            raise ValueError(f"board {board.name}: expected clock and uart in its table, got none: capacity only")
        self.board = board
        wanted = frequency_mhz or board.clock.frequency_mhz
        self.pll = pll_settings(board.clock.frequency_mhz, wanted) if wanted != board.clock.frequency_mhz else None
        self.frequency_mhz = self.pll.frequency_mhz if self.pll else wanted
        self.baud = baud or board.uart.baud
        self.core = LinkedAccelerator(network, options, divisor_of(self.frequency_mhz, self.baud))
        self.pins: dict[str, Pin] = {"clk": board.clock.pin, "rx": board.uart.receive, "tx": board.uart.transmit}
        self.pins |= {f"led{i}": pin for i, pin in enumerate(board.leds[:4])}
        leds = {name: Out(1) for name in self.pins if name.startswith("led")}
        super().__init__({"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), **leds})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.core = core = self.core
        locked: Signal | Const = Const(1, 1)
        if self.pll is None:
            m.d.comb += ClockSignal().eq(self.clk)
        else:
            locked = Signal()
            m.submodules.pll = self._pll(self.pll, locked)
        # Held in reset until the PLL is locked and for 255 cycles more; starts at 0 by configuration. (An iCE40's block
        # RAM can't be read in the first 3 us.)
        m.domains.start = ClockDomain(reset_less=True, local=True)
        settled = Signal(8)
        m.d.comb += [ClockSignal("start").eq(ClockSignal()), ResetSignal().eq(~settled.all())]
        with m.If(~locked):
            m.d.start += settled.eq(0)
        with m.Elif(~settled.all()):
            m.d.start += settled.eq(settled + 1)
        m.d.comb += [core.rx.eq(self.rx), self.tx.eq(core.tx)]
        beat, lamp = Signal(max(1, int(self.frequency_mhz * 5e5).bit_length())), Signal(20)
        m.d.sync += beat.eq(beat + 1)
        with m.If(core.traffic):
            m.d.sync += lamp.eq(-1)
        with m.Elif(lamp != 0):
            m.d.sync += lamp.eq(lamp - 1)
        lamps = [beat[-1], core.failed, lamp != 0, core.stalled]
        for i, (pin, value) in enumerate(zip(self.board.leds, lamps, strict=False)):
            m.d.comb += getattr(self, f"led{i}").eq(~value if pin.invert else value)
        return m

    def _pll(self, s: PllSettings, locked: Signal) -> Instance:
        clock = ClockSignal()
        return Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12",  # filter values that Lattice's generator writes for this range
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=s.output,
            p_CLKOP_CPHASE=s.output // 2,
            p_CLKOP_FPHASE=0,
            p_CLKI_DIV=s.input,
            p_CLKFB_DIV=s.feedback,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=self.clk,
            i_CLKFB=clock,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(0),
            i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=clock,
            o_LOCK=locked,
        )

    def rtlil(self) -> str:
        """Deterministic RTLIL of the top module `board_top`."""
        return convert_rtlil(self, "board_top", [getattr(self, name) for name in self.pins])
