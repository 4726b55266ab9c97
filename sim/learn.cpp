// The main program for designs that learn: one sample after the other, and everything that lasts read back in between.
//
// Included model.h (generated from the design's manifest) knows the ports. Arguments:
//   FOLDER SAMPLES STALL_IN STALL_OUT SEED LEARN PERIOD HOST_CYCLES
// FOLDER holds in0.bin, ... (as the batch engine's), labels.bin (int32 [samples]), places.bin (int32 [places][3]: site, word,
// lane) and loads.bin (int32 [loads][4]: site, word, lane, value, written before the first sample). After every PERIOD
// samples, and after the last, all places are read, then the counters. It writes out0.bin (int32 [samples][outputs]),
// reads.bin (int32 [reads][places + counters]) and result.txt.
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

std::vector<int32_t> read_file(const std::string &path) {
    std::ifstream f(path, std::ios::binary | std::ios::ate);
    std::vector<int32_t> out(size_t(f.tellg()) / 4);
    f.seekg(0);
    f.read(reinterpret_cast<char *>(out.data()), std::streamsize(out.size() * 4));
    if (!f) {
        fprintf(stderr, "learning engine: %s can't be read\n", path.c_str());
        exit(2);
    }
    return out;
}

void write_file(const std::string &path, const std::vector<int32_t> &a) {
    std::ofstream f(path, std::ios::binary);
    f.write(reinterpret_cast<const char *>(a.data()), std::streamsize(a.size() * 4));
    f.close();
    if (!f) {
        fprintf(stderr, "learning engine: %s can't be written\n", path.c_str());
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
    if (argc != 9) {
        fprintf(stderr, "learning engine: expected 8 arguments, got %d\n", argc - 1);
        return 2;
    }
    const std::string folder = std::string(argv[1]) + "/";
    const size_t samples = strtoull(argv[2], nullptr, 10), period = strtoull(argv[7], nullptr, 10);
    const uint32_t stall_in = uint32_t(atoi(argv[3])), stall_out = uint32_t(atoi(argv[4]));
    Random random{strtoull(argv[5], nullptr, 10) * 2 + 88172645463325253ull};
    const bool learn = atoi(argv[6]) != 0;
    const int host_cycles = atoi(argv[8]);
    std::vector<int32_t> beats[INPUTS];
    size_t step[INPUTS], next[INPUTS];
    for (int i = 0; i < INPUTS; i++) {
        beats[i] = read_file(folder + "in" + std::to_string(i) + ".bin");
        step[i] = 1 + 2 * IN_LANES[i], next[i] = 1;  // beats begin after their number
    }
    const auto labels = read_file(folder + "labels.bin");
    const auto places = read_file(folder + "places.bin"), loads = read_file(folder + "loads.bin");
    const size_t outputs = OUT_SIZE[0];
    std::vector<int32_t> out(samples * outputs), reads;

    VerilatedContext context;
    auto model = std::make_unique<Model>(&context);
    Model &t = *model;
    uint64_t cycle = 0;
    auto clock = [&] {
        t.clk = 1;
        t.eval();
        t.clk = 0;
        cycle++;
    };
    t.clk = 0;
    t.rst = 1;
    idle(t);
    t.learn = learn, t.label = 0, t.host = 0, t.host_write = 0;
    for (int i = 0; i < 4; i++) t.eval(), clock();
    t.rst = 0;

    auto settle = [&] {  // the clearing of a map's sums, and what a sample leaves behind
        for (int i = 0; i < INPUTS; i++) withdraw(t, i);
        for (int i = 0; i < 64; i++) t.eval(), clock();
    };
    auto address = [&](const int32_t *p) { t.host_site = p[0], t.host_at = p[1], t.host_lane = p[2]; };
    settle();
    t.host = 1;
    for (size_t n = 0; n + 3 < loads.size(); n += 4) {
        address(&loads[n]);
        t.host_data = uint32_t(loads[n + 3]), t.host_write = 1;
        t.eval(), clock();
        t.host_write = 0;
        t.eval(), clock();
    }
    t.host = 0;
    settle();
    auto read_all = [&] {
        settle();
        t.host = 1;
        for (size_t n = 0; n + 2 < places.size(); n += 3) {
            address(&places[n]);
            for (int i = 0; i < host_cycles; i++) t.eval(), clock();
            reads.push_back(int32_t(t.host_value));
        }
        t.host = 0;
        for (int c = 0; c < COUNTERS; c++) reads.push_back(int32_t(counter(t, c)));
        settle();
    };

    const uint64_t patience = 200000;
    size_t ended = 0, waiting = 0;
    uint64_t busy_cycles = 0;
    std::string problem;
    for (size_t n = 0; n < samples && problem.empty(); n++) {
        bool offered[INPUTS] = {}, sent[INPUTS] = {}, done = false;
        int left = INPUTS;
        waiting = 0;
        const uint64_t began = cycle;
        t.label = uint32_t(labels[n]);
        while (problem.empty() && !(!left && done && !t.busy)) {
            for (int i = 0; i < INPUTS; i++) {
                if (offered[i]) continue;
                if (sent[i] || (stall_in && random.next16() < stall_in)) {
                    withdraw(t, i);
                    continue;
                }
                if (next[i] + step[i] > beats[i].size()) {
                    problem = "too few beats";
                    break;
                }
                drive(t, i, &beats[i][next[i]]);
                offered[i] = true;
            }
            set_ready(t, 0, !stall_out || random.next16() >= stall_out);
            t.eval();
            waiting++;
            for (int i = 0; i < INPUTS; i++)
                if (offered[i] && in_ready(t, i)) {
                    sent[i] = (uint32_t(beats[i][next[i]]) >> 31) & 1;
                    left -= sent[i];
                    next[i] += step[i];
                    offered[i] = false;
                }
            if (out_moves(t, 0)) {
                if (ended > n || !take(t, 0, &out[n * outputs])) {
                    problem = "an output out of place at sample " + std::to_string(n);
                    break;
                }
                if (out_last(t, 0)) done = true, ended++;
            }
            clock();
            if (waiting > patience) {
                problem = "deadlock: sample " + std::to_string(n) + " doesn't end";
                break;
            }
            t.eval();
        }
        for (int i = 0; i < INPUTS; i++) withdraw(t, i);
        busy_cycles += cycle - began;
        if (problem.empty() && ((n + 1) % period == 0 || n + 1 == samples)) {
            read_all();
            printf("%zu\n", n + 1);
            fflush(stdout);
        }
    }
    std::ofstream result(folder + "result.txt");
    result << "cycles " << busy_cycles << "\n";
    if (!problem.empty()) result << "problem " << problem << "\n";
    result.close();
    write_file(folder + "out0.bin", out);
    write_file(folder + "reads.bin", reads);
    t.final();
    return 0;
}
