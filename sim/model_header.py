"""The C++ header that tells the batch engine's main program a design's ports; made of indices only."""

from __future__ import annotations

from apical.hw.design import Manifest, StreamPort


def _switch(name: str, result: str, arguments: str, bodies: list[str]) -> str:
    cases = "".join(f"        case {i}: {{ {body} }}\n" for i, body in enumerate(bodies))
    tail = "" if result == "void" else " return 0;"
    return f"static inline {result} {name}({arguments}) {{\n    switch (i) {{\n{cases}    }}{tail}\n}}\n"


def _sign(expression: str, bits: int, signed: bool) -> str:
    if not signed:
        return f"int32_t({expression})"
    return f"(int32_t(uint32_t({expression}) << {32 - bits}) >> {32 - bits})"


def _drive(s: StreamPort) -> str:
    mask, out = (1 << s.value_bits) - 1, []
    for e in range(s.event_lanes):
        out.append(f"t.{s.prefix}_row{e} = uint32_t(b[{1 + e}]);")
        if s.has_value:
            out.append(f"t.{s.prefix}_value{e} = uint32_t(b[{1 + s.event_lanes + e}]) & {mask}u;")
    flags = f"t.{s.prefix}_keep = uint32_t(b[0]) & {(1 << s.event_lanes) - 1}u; t.{s.prefix}_last = (b[0] >> 30) & 1;"
    return f"t.{s.prefix}_valid = 1; {flags} t.{s.prefix}_final = (uint32_t(b[0]) >> 31) & 1; {' '.join(out)} break;"


def _take(s: StreamPort) -> str:
    out = []
    for e in range(s.event_lanes):
        index = f"size_t(t.{s.prefix}_row{e}) * {s.classes} + {e % s.classes}"
        if s.shape is not None:
            index = f"neuron_of_{s.prefix}({index})"
        value = _sign(f"t.{s.prefix}_value{e}", s.value_bits, s.signed) if s.has_value else "1"
        out.append(
            f"if ((t.{s.prefix}_keep >> {e}) & 1) {{ size_t n = {index}; "
            f"if (n >= {s.size}) return false; a[n] += {value}; }}"
        )
    return " ".join(out) + " return true;"


def _neurons(s: StreamPort) -> str:
    """C++ function from an index in a map's stream to the neuron; one beyond the last for what isn't there."""
    table = [s.size] * (1 << s.row_bits) * s.classes
    for neuron, index in enumerate(s.index_of):
        table[int(index)] = neuron
    numbers = ",".join(map(str, table))
    head = f"static inline size_t neuron_of_{s.prefix}(size_t i)"
    return f"{head} {{ static const uint32_t of[] = {{{numbers}}}; return of[i]; }}\n"


def _recorder(manifest: Manifest) -> str:
    """C++ class that records the monitors."""
    arrays, record, restart, write, complete = [], [], [], [], ["true"]
    for p, mon in enumerate(manifest.monitors):
        lanes, rows = len(mon.neuron_of[0]), len(mon.neuron_of)
        size = sum(1 for row in mon.neuron_of for i in row if i >= 0)
        table = ",".join(str(i) for row in mon.neuron_of for i in row)
        signals = {"value": (mon.value_bits, mon.signed), **mon.state_formats}
        arrays.append(f"    size_t tick{p} = 0;\n    static constexpr int of{p}[] = {{{table}}};\n")
        body = [f"const int *n = of{p} + size_t(t.{mon.prefix}_row) * {lanes};"]
        for k, (name, (bits, signed)) in enumerate(signals.items()):
            arrays.append(f"    std::vector<int32_t> a{p}_{k};\n")
            restart.append(f"        a{p}_{k}.assign(total * {size}, 0);\n")
            file = f"mon{p}.bin" if k == 0 else f"mon{p}_{k - 1}.bin"
            write.append(f'        f("{file}", a{p}_{k});\n')
            for j in range(lanes):
                value = _sign(f"t.{mon.prefix}_{name}{j}", bits, signed)
                body.append(f"if (n[{j}] >= 0) a{p}_{k}[tick{p} * {size} + n[{j}]] = {value};")
        ends = f"t.{mon.prefix}_last" if mon.gated else f"t.{mon.prefix}_row == {rows - 1}"
        body.append(f"if ({ends}) tick{p}++;")
        inside = "\n            ".join(body)
        condition = f"t.{mon.prefix}_valid && tick{p} < total && t.{mon.prefix}_row < {rows}"
        record.append(f"        if ({condition}) {{\n            moved = true;\n            {inside}\n        }}\n")
        restart.append(f"        tick{p} = 0;\n")
        complete.append(f"tick{p} == total")
    return (
        "struct Recorder {\n    size_t total;\n"
        + "".join(arrays)
        + "    explicit Recorder(size_t n) : total(n) { restart(); }\n"
        + f"    void restart() {{\n{''.join(restart)}    }}\n"
        + f"    bool record(const Model &t) {{\n        bool moved = false;\n{''.join(record)}"
        + "        return moved;\n    }\n"
        + f"    bool complete() const {{ return {' && '.join(complete)}; }}\n"
        + f"    template <class F> void write(F f) const {{\n{''.join(write)}    }}\n}};\n"
    )


def _traced(top: str, half_period_ps: int) -> str:
    """C++ class of a model whose every evaluation, half a clock period after the last, goes into activity.saif."""
    lines = [
        '#include "verilated_saif_c.h"',
        f"class Model : public V{top} {{",
        "    VerilatedSaifC saif;",
        "    uint64_t now = 0;",
        "",
        "  public:",
        f"    explicit Model(VerilatedContext *c) : V{top}((c->traceEverOn(true), c)) {{",
        "        trace(&saif, 99);",
        '        saif.open("activity.saif");',
        "    }",
        "    void eval() {",
        f"        V{top}::eval();",
        "        saif.dump(now);",
        f"        now += {half_period_ps};",
        "    }",
        "    void final() {",
        "        saif.close();",
        f"        V{top}::final();",
        "    }",
        "};",
    ]
    return "\n".join(lines) + "\n"


def model_header(manifest: Manifest, half_period_ps: int = 0) -> str:
    """The C++ header that knows the ports; made of indices only.

    :param half_period_ps: above 0: the model writes its switching activity at such a clock.
    """
    ins, outs = manifest.inputs, manifest.outputs
    idle = [f"t.{s.prefix}_valid = 0;" for s in ins] + [f"t.{s.prefix}_ready = 1;" for s in outs]
    if manifest.point is not None:
        idle.append(f"t.point = {manifest.point};")
    constant = [
        f"t.{s.prefix}_valid = 1; t.{s.prefix}_keep = 1; t.{s.prefix}_last = 0; t.{s.prefix}_final = 0;" for s in ins
    ]
    parts = [
        "#pragma once\n#include <cstdint>\n#include <vector>\n",
        f'#include "V{manifest.top}.h"\n',
        _traced(manifest.top, half_period_ps) if half_period_ps else f"using Model = V{manifest.top};\n",
        f"constexpr int INPUTS = {len(ins)}, OUTPUTS = {len(outs)}, COUNTERS = {len(manifest.counters)};\n",
        f"constexpr size_t IN_LANES[] = {{{', '.join(str(s.event_lanes) for s in ins)}}};\n",
        f"constexpr size_t OUT_SIZE[] = {{{', '.join(str(s.size) for s in outs)}}};\n",
        f"static inline void idle(Model &t) {{ {' '.join(idle)} }}\n",
        f"static inline void constant(Model &t) {{ {' '.join(constant)} }}\n",
        _switch("drive", "void", "Model &t, int i, const int32_t *b", [_drive(s) for s in ins]),
        _switch("withdraw", "void", "Model &t, int i", [f"t.{s.prefix}_valid = 0; break;" for s in ins]),
        _switch("in_ready", "bool", "const Model &t, int i", [f"return t.{s.prefix}_ready;" for s in ins]),
        _switch("set_ready", "void", "Model &t, int i, bool v", [f"t.{s.prefix}_ready = v; break;" for s in outs]),
        _switch(
            "out_moves",
            "bool",
            "const Model &t, int i",
            [f"return t.{s.prefix}_valid && t.{s.prefix}_ready;" for s in outs],
        ),
        _switch("out_last", "bool", "const Model &t, int i", [f"return t.{s.prefix}_last;" for s in outs]),
        _switch("out_final", "bool", "const Model &t, int i", [f"return t.{s.prefix}_final;" for s in outs]),
        *(_neurons(s) for s in outs if s.shape is not None),
        _switch("take", "bool", "const Model &t, int i, int32_t *a", [_take(s) for s in outs]),
        _switch(
            "counter", "uint32_t", "const Model &t, int i", [f"return t.cnt{c};" for c in range(len(manifest.counters))]
        ),
        _recorder(manifest),
    ]
    return "\n".join(parts)
