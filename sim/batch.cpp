// The batch engine's main program: feeds stimulus files to a Verilated accelerator, records what it does.
//
// Included model.h (generated from the design's manifest) knows the ports. Arguments:
//   FOLDER SAMPLES TICKS STALL_IN STALL_OUT SEED RESET_AT BARE_CYCLES ENDLESS GAP
// FOLDER holds in<i>.bin (uint32 beats, then per beat: uint32 flags, int32 rows[lanes], int32 values[lanes]);
// stalls are per 65536; RESET_AT > 0: reset for 3 cycles at that cycle, then start over from the first beat.
// It writes out<o>.bin, mon<p>.bin, mon<p>_<s>.bin (int32 [samples][ticks][neurons]) and result.txt there.
// ENDLESS 1: one sample that no mark ends; times.bin gets, per tick, two int64: the cycle in which the last input took
// the tick's last beat, and the one in which the last output's end of the tick left. GAP >= 0: a tick is offered only
// that many cycles after all outputs' ends of the tick before have left.
// BARE_CYCLES > 0: only evaluates the model that often with constant inputs, for comparison.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "model.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

struct Beats {
    uint32_t count = 0;
    size_t lanes = 0;
    std::vector<int32_t> words;
    const int32_t *at(size_t n) const { return &words[n * (1 + 2 * lanes)]; }
};

Beats read_beats(const std::string &path, size_t lanes) {
    Beats b;
    b.lanes = lanes;
    std::ifstream f(path, std::ios::binary);
    f.read(reinterpret_cast<char *>(&b.count), 4);
    b.words.resize(size_t(b.count) * (1 + 2 * lanes));
    f.read(reinterpret_cast<char *>(b.words.data()), std::streamsize(b.words.size() * 4));
    if (!f) {
        fprintf(stderr, "batch engine: %s is too short\n", path.c_str());
        exit(2);
    }
    return b;
}

void write_array(const std::string &path, const std::vector<int32_t> &a) {
    std::ofstream f(path, std::ios::binary);
    f.write(reinterpret_cast<const char *>(a.data()), std::streamsize(a.size() * 4));
    f.close();
    if (!f) {
        fprintf(stderr, "batch engine: %s can't be written\n", path.c_str());
        exit(2);
    }
}

struct Random {  // xorshift64*
    uint64_t s;
    uint32_t next16() {
        s ^= s >> 12, s ^= s << 25, s ^= s >> 27;
        return uint32_t((s * 2685821657736338717ull) >> 48);
    }
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 11) {
        fprintf(stderr, "batch engine: expected 10 arguments, got %d\n", argc - 1);
        return 2;
    }
    const std::string folder = std::string(argv[1]) + "/";
    const size_t samples = strtoull(argv[2], nullptr, 10), ticks = strtoull(argv[3], nullptr, 10);
    const uint32_t stall_in = uint32_t(atoi(argv[4])), stall_out = uint32_t(atoi(argv[5]));
    Random random{strtoull(argv[6], nullptr, 10) * 2 + 88172645463325253ull};
    const uint64_t reset_at = strtoull(argv[7], nullptr, 10), bare = strtoull(argv[8], nullptr, 10);
    const bool endless = atoi(argv[9]) != 0;
    const int64_t gap = strtoll(argv[10], nullptr, 10);

    VerilatedContext context;
    auto model = std::make_unique<Model>(&context);
    Model &t = *model;
    auto clock = [&] {
        t.clk = 1;
        t.eval();
        t.clk = 0;
    };
    t.clk = 0;
    t.rst = 1;
    idle(t);
    for (int i = 0; i < 4; i++) t.eval(), clock();
    t.rst = 0;

    const auto began = std::chrono::steady_clock::now();
    auto seconds = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    };
    if (bare) {
        constant(t);
        for (uint64_t c = 0; c < bare; c++) t.eval(), clock();
        std::ofstream(folder + "result.txt") << "cycles " << bare << "\nseconds " << seconds() << "\n";
        return 0;
    }

    Beats beats[INPUTS];
    uint32_t next[INPUTS] = {};
    bool offered[INPUTS] = {};
    for (int i = 0; i < INPUTS; i++) beats[i] = read_beats(folder + "in" + std::to_string(i) + ".bin", IN_LANES[i]);
    std::vector<int32_t> out[OUTPUTS];
    size_t in_tick[INPUTS] = {}, out_tick[OUTPUTS] = {};
    std::vector<int64_t> times(endless ? 2 * samples * ticks : 0);
    size_t left = 0;       // ticks whose ends have left every output
    uint64_t release = 0;  // first cycle in which the next tick may be offered
    for (int o = 0; o < OUTPUTS; o++) out[o].resize(samples * ticks * OUT_SIZE[o]);
    Recorder recorder(samples * ticks);

    const size_t total = samples * ticks;
    const uint64_t patience = 200000, quiet = 512;
    uint64_t first = 0, last = 0, idle_cycles = 0, cycle = 0;
    bool began_input = false, resetting = reset_at > 0;
    size_t told = 0;
    std::string problem;
    for (;; cycle++) {
        if (resetting && cycle == reset_at) {
            t.rst = 1;
            idle(t);
            for (int i = 0; i < 3; i++) t.eval(), clock();
            t.rst = 0;
            for (int i = 0; i < INPUTS; i++) next[i] = 0, in_tick[i] = 0, offered[i] = false;
            for (int o = 0; o < OUTPUTS; o++) {
                out_tick[o] = 0;
                std::fill(out[o].begin(), out[o].end(), 0);
            }
            recorder.restart();
            left = release = 0;
            began_input = resetting = false;
        }
        for (int i = 0; i < INPUTS; i++) {
            if (offered[i]) continue;
            const bool held = gap >= 0 && (in_tick[i] > left || cycle < release);
            if (!held && next[i] < beats[i].count && (!stall_in || random.next16() >= stall_in)) {
                offered[i] = true;
                drive(t, i, beats[i].at(next[i]));
            } else {
                withdraw(t, i);
            }
        }
        if (stall_out)
            for (int o = 0; o < OUTPUTS; o++) set_ready(t, o, random.next16() >= stall_out);
        t.eval();  // settle with clk = 0
        bool moved = recorder.record(t);
        for (int i = 0; i < INPUTS; i++) {
            if (offered[i] && in_ready(t, i)) {
                if (!began_input) began_input = true, first = cycle;
                offered[i] = false;
                moved = true;
                if ((uint32_t(beats[i].at(next[i])[0]) >> 30) & 1) {
                    if (endless) times[2 * in_tick[i]] = int64_t(cycle);
                    in_tick[i]++;
                }
                next[i]++;
            }
        }
        for (int o = 0; o < OUTPUTS; o++) {
            if (!out_moves(t, o)) continue;
            moved = true;
            last = cycle;
            if (out_tick[o] >= total) {
                problem = "output " + std::to_string(o) + " sends more ticks than were asked for";
                break;
            }
            if (!take(t, o, &out[o][out_tick[o] * OUT_SIZE[o]])) {
                problem = "output " + std::to_string(o) + ": an event of a neuron that doesn't exist, at tick " +
                          std::to_string(out_tick[o]);
                break;
            }
            if (out_last(t, o)) {
                if (endless) times[2 * out_tick[o] + 1] = int64_t(cycle);
                out_tick[o]++;
                if (bool(out_final(t, o)) != (!endless && out_tick[o] % ticks == 0)) {
                    problem = "output " + std::to_string(o) + ": sample mark out of place at tick " +
                              std::to_string(out_tick[o] - 1);
                    break;
                }
            }
        }
        if (!problem.empty()) break;
        size_t least = out_tick[0];
        for (int o = 1; o < OUTPUTS; o++) least = std::min(least, out_tick[o]);
        if (least > left) left = least, release = cycle + 1 + uint64_t(gap);
        clock();
        idle_cycles = moved ? 0 : idle_cycles + 1;
        bool complete = recorder.complete();
        for (int o = 0; o < OUTPUTS; o++) complete = complete && out_tick[o] == total;
        for (int i = 0; i < INPUTS; i++) complete = complete && next[i] == beats[i].count;
        if (complete && idle_cycles > quiet) break;
        if (idle_cycles > patience) {
            problem = "deadlock: nothing moved for " + std::to_string(patience) + " cycles before cycle " +
                      std::to_string(cycle);
            for (int i = 0; i < INPUTS; i++)
                problem += "; input " + std::to_string(i) + " has " + std::to_string(beats[i].count - next[i]) +
                           " of " + std::to_string(beats[i].count) + " beats left";
            for (int o = 0; o < OUTPUTS; o++)
                problem += "; output " + std::to_string(o) + " closed " + std::to_string(out_tick[o]) + " of " +
                           std::to_string(total) + " ticks";
            break;
        }
        const size_t done = endless ? left : out_tick[0] / ticks;
        if ((cycle & 0xffff) == 0 && done != told) {
            told = done;
            printf("%zu\n", told);
            fflush(stdout);
        }
    }
    std::ofstream result(folder + "result.txt");
    result << "cycles " << (last + 1 - first) << "\nall_cycles " << cycle + 1 << "\nseconds " << seconds() << "\n";
    for (int c = 0; c < COUNTERS; c++) result << "counter " << c << " " << counter(t, c) << "\n";
    if (!problem.empty()) result << "problem " << problem << "\n";
    result.close();
    for (int o = 0; o < OUTPUTS; o++) write_array(folder + "out" + std::to_string(o) + ".bin", out[o]);
    if (endless) {
        std::ofstream f(folder + "times.bin", std::ios::binary);
        f.write(reinterpret_cast<const char *>(times.data()), std::streamsize(times.size() * 8));
    }
    recorder.write([&](const std::string &name, const std::vector<int32_t> &a) { write_array(folder + name, a); });
    t.final();
    return 0;
}
