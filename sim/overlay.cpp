// The main program behind apical.sim.overlay: an AXI system (docs/reference/axi.md) under line commands.
//
// Included model.h names the top module. Time passes in commands that say so; numbers are hexadecimal, words have
// data bits / 4 digits, the highest first. Each command is a line, each answer too:
//   w ADDRESS DATA       write a register: RESPONSE
//   r ADDRESS            read one: RESPONSE DATA
//   s LAST WORD ...      words to offer from now on; LAST 1: TLAST on the last of them: ok
//   a WORDS              take words, up to so many or a TLAST; forgets those taken before: ok
//   c CYCLES             let time pass: QUEUED TAKEN STATE INTERRUPT CYCLE; STATE 0: not taking, 1: taking, 2: too long
//   t                    the words taken: WORD ...
//   x                    forget words that aren't on the bus yet, stop taking: ok
//   k IN OUT BUS         stalls of the two streams and of the registers' channels, per 65536: ok
//   h                    hard reset: ok
// Argument: the seed of the stalls.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "model.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

using Word = std::vector<uint32_t>;  // lowest 32 bits first

void put(IData &port, const Word &w) { port = w[0]; }
void put(QData &port, const Word &w) { port = uint64_t(w[1]) << 32 | w[0]; }
template <class Wide> void put(Wide &port, const Word &w) {
    for (size_t n = 0; n < w.size(); n++) port[n] = w[n];
}
void get(const IData &port, Word &w) { w[0] = port; }
void get(const QData &port, Word &w) { w[0] = uint32_t(port), w[1] = uint32_t(port >> 32); }
template <class Wide> void get(const Wide &port, Word &w) {
    for (size_t n = 0; n < w.size(); n++) w[n] = port[n];
}

constexpr uint64_t PATIENCE = 100000;  // cycles for an access

class Bench {
  public:
    explicit Bench(uint64_t seed) : random(seed * 2 + 88172645463325253ull), model(new Model(&context)), t(*model) {
        t.aclk = 0;
        t.s_axi_awprot = t.s_axi_arprot = 0;
        t.s_axis_tuser = 0;
        hard_reset();
    }

    static constexpr size_t chunks = sizeof(Model::s_axis_tdata) / 4;
    std::deque<std::pair<Word, bool>> queue;
    std::vector<Word> taken;
    uint64_t room = 0, cycle = 0;
    int state = 0;
    uint32_t stall_in = 0, stall_out = 0, stall_bus = 0;

    void hard_reset() {
        t.aresetn = 0;
        t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_bready = t.s_axi_arvalid = t.s_axi_rready = 0;
        t.s_axis_tvalid = t.m_axis_tready = 0;
        offered = false;
        forget();
        for (int n = 0; n < 4; n++) t.eval(), clock();
        t.aresetn = 1;
    }

    void forget() {
        const bool keep = offered && !queue.empty();
        queue.erase(queue.begin() + keep, queue.end());
        taken.clear();
        state = 0;
    }

    bool interrupt() const { return t.__SYM__interrupt; }  // the word is reserved in Verilator's C++

    /// One cycle; `seen` looks at the settled ports before the edge.
    template <class Look> void step(Look seen) {
        if (!offered && !queue.empty() && !stalled(stall_in)) {
            offered = true;
            put(t.s_axis_tdata, queue.front().first);
            constexpr size_t bytes = chunks * 4;
            t.s_axis_tkeep = bytes == 64 ? ~uint64_t(0) : (uint64_t(1) << bytes % 64) - 1;
            t.s_axis_tlast = queue.front().second;
        }
        t.s_axis_tvalid = offered;
        t.m_axis_tready = state == 1 && !stalled(stall_out);
        t.eval();
        seen();
        const bool in = t.s_axis_tvalid && t.s_axis_tready, out = t.m_axis_tvalid && t.m_axis_tready;
        if (in) queue.pop_front(), offered = false;
        if (out) {
            Word w(chunks);
            get(t.m_axis_tdata, w);
            taken.push_back(w);
            if (t.m_axis_tlast) state = 0;
            else if (taken.size() >= room) state = 2;
        }
        clock();
        cycle++;
    }

    /// Writes a register; the response, or -1 where none comes.
    int write(uint32_t address, uint32_t data) {
        t.s_axi_awaddr = address, t.s_axi_wdata = data, t.s_axi_wstrb = 15;
        bool address_left = true, data_left = true, answer = false;
        int response = -1;
        for (uint64_t n = 0; n < PATIENCE && !answer; n++) {
            if (address_left && !t.s_axi_awvalid) t.s_axi_awvalid = !stalled(stall_bus);
            if (data_left && !t.s_axi_wvalid) t.s_axi_wvalid = !stalled(stall_bus);
            t.s_axi_bready = !stalled(stall_bus);
            bool address_goes = false, data_goes = false;
            step([&] {
                address_goes = t.s_axi_awvalid && t.s_axi_awready;
                data_goes = t.s_axi_wvalid && t.s_axi_wready;
                if (t.s_axi_bvalid && t.s_axi_bready) answer = true, response = t.s_axi_bresp;
            });
            if (address_goes) t.s_axi_awvalid = 0, address_left = false;
            if (data_goes) t.s_axi_wvalid = 0, data_left = false;
        }
        t.s_axi_bready = 0;
        return response;
    }

    int read(uint32_t address, uint32_t &data) {
        t.s_axi_araddr = address;
        bool left = true, answer = false;
        int response = -1;
        for (uint64_t n = 0; n < PATIENCE && !answer; n++) {
            if (left && !t.s_axi_arvalid) t.s_axi_arvalid = !stalled(stall_bus);
            t.s_axi_rready = !stalled(stall_bus);
            bool goes = false;
            step([&] {
                goes = t.s_axi_arvalid && t.s_axi_arready;
                if (t.s_axi_rvalid && t.s_axi_rready) answer = true, response = t.s_axi_rresp, data = t.s_axi_rdata;
            });
            if (goes) t.s_axi_arvalid = 0, left = false;
        }
        t.s_axi_rready = 0;
        return response;
    }

  private:
    bool stalled(uint32_t share) {  // xorshift64*
        if (!share) return false;
        random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
        return uint32_t((random * 2685821657736338717ull) >> 48) < share;
    }
    void clock() {
        t.aclk = 1;
        t.eval();
        t.aclk = 0;
    }

    uint64_t random;
    VerilatedContext context;
    std::unique_ptr<Model> model;
    Model &t;
    bool offered = false;
};

Word word_of(const std::string &digits) {
    Word w(Bench::chunks);
    if (digits.size() != 8 * w.size()) {
        fprintf(stderr, "overlay: expected words of %zu digits, got %zu\n", 8 * w.size(), digits.size());
        exit(2);
    }
    for (size_t n = 0; n < w.size(); n++)
        w[n] = uint32_t(std::stoul(digits.substr(digits.size() - 8 * (n + 1), 8), nullptr, 16));
    return w;
}

void print(const Word &w) {
    for (size_t n = w.size(); n-- > 0;) printf("%08x", w[n]);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "overlay: expected a seed, got %d arguments\n", argc - 1);
        return 2;
    }
    Bench bench(strtoull(argv[1], nullptr, 10));
    std::string line, command;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        words >> command >> std::hex;
        uint64_t a = 0, b = 0, c = 0;
        if (command == "w" && words >> a >> b) {
            printf("%d\n", bench.write(uint32_t(a), uint32_t(b)));
        } else if (command == "r" && words >> a) {
            uint32_t data = 0;
            const int response = bench.read(uint32_t(a), data);
            printf("%d %x\n", response, data);
        } else if (command == "s" && words >> a) {
            for (std::string digits; words >> digits;) bench.queue.push_back({word_of(digits), false});
            if (a && !bench.queue.empty()) bench.queue.back().second = true;
            puts("ok");
        } else if (command == "a" && words >> a) {
            bench.taken.clear();
            bench.room = a, bench.state = 1;
            puts("ok");
        } else if (command == "c" && words >> a) {
            while (a--) bench.step([] {});
            printf("%zx %zx %x %x %llx\n", bench.queue.size(), bench.taken.size(), bench.state, bench.interrupt(),
                   (unsigned long long)bench.cycle);
        } else if (command == "t") {
            for (const Word &w : bench.taken) print(w), putchar(' ');
            putchar('\n');
        } else if (command == "x") {
            bench.forget();
            puts("ok");
        } else if (command == "k" && words >> a >> b >> c) {
            bench.stall_in = uint32_t(a), bench.stall_out = uint32_t(b), bench.stall_bus = uint32_t(c);
            puts("ok");
        } else if (command == "h") {
            bench.hard_reset();
            puts("ok");
        } else {
            fprintf(stderr, "overlay: no such command: %s\n", line.substr(0, 60).c_str());
            return 2;
        }
        fflush(stdout);
    }
    return 0;
}
