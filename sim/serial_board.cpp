// The main program behind apical.sim.serial_board: a board's serial line, bit by bit, behind a terminal.
//
// Arguments: FD DIVISOR SEED. Bytes that come from FD go to rx with DIVISOR cycles a bit; what tx sends goes to FD. Where
// nothing moves for long it sleeps until a byte comes. Lines from the standard input, whose end ends it:
//   n IN OUT   noise from now on: bytes of 65536 in which one bit is flipped, to the board and from it
//   d IN OUT   flip a bit of the byte after so many more; 0: of none
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>

#include "model.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

struct Direction {  // damages bytes
    uint64_t s;
    uint32_t noise = 0;
    uint64_t damage = 0;
    uint8_t through(uint8_t byte) {
        s ^= s >> 12, s ^= s << 25, s ^= s >> 27;  // xorshift64*
        const uint32_t r = uint32_t((s * 2685821657736338717ull) >> 40);
        const bool hit = (damage && !--damage) || (r & 0xffff) < noise;
        return hit ? byte ^ uint8_t(1u << (r >> 16 & 7)) : byte;
    }
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "serial board: expected 3 arguments, got %d\n", argc - 1);
        return 2;
    }
    const int fd = atoi(argv[1]), divisor = atoi(argv[2]);
    const uint64_t seed = strtoull(argv[3], nullptr, 10) * 2 + 88172645463325253ull;
    Direction in{seed}, out{seed * 3};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);

    VerilatedContext context;
    auto model = std::make_unique<Model>(&context);
    Model &t = *model;
    auto clock = [&] {
        t.eval();
        t.clk = 1;
        t.eval();
        t.clk = 0;
    };
    t.clk = 0, t.rst = 1, t.rx = 1;
    for (int n = 0; n < 4; n++) clock();
    t.rst = 0;

    std::deque<uint8_t> to_board, from_board;
    std::string commands;
    uint32_t byte = 0, shift = 0;  // heard on tx; to be sent: stop bit, byte, start bit
    int bits = 0, phase = 0, listening = -1, heard = 0;
    uint64_t quiet = 0;
    const uint64_t patience = 100000;  // cycles in which nothing moved
    for (uint64_t cycle = 0;; cycle++) {
        if (cycle % 64 == 0) {
            uint8_t buffer[256];
            const bool sleeps = quiet > patience && to_board.empty() && !bits;
            pollfd watched[] = {{fd, POLLIN, 0}, {0, POLLIN, 0}};
            if (sleeps) poll(watched, 2, 20);
            ssize_t n = to_board.size() < 4096 ? read(fd, buffer, sizeof buffer) : 0;
            for (ssize_t k = 0; k < n; k++) to_board.push_back(in.through(buffer[k]));
            n = read(0, buffer, sizeof buffer);
            if (n == 0) return 0;
            if (n > 0) commands.append(reinterpret_cast<char *>(buffer), size_t(n));
            for (size_t end; (end = commands.find('\n')) != std::string::npos; commands.erase(0, end + 1)) {
                unsigned a = 0, b = 0;
                if (sscanf(commands.c_str(), "n %u %u", &a, &b) == 2) in.noise = a, out.noise = b;
                if (sscanf(commands.c_str(), "d %u %u", &a, &b) == 2) in.damage = a, out.damage = b;
            }
            while (!from_board.empty()) {
                const uint8_t byte = from_board.front();
                if (write(fd, &byte, 1) != 1) break;
                from_board.pop_front();
            }
        }
        if (!bits && !to_board.empty()) {
            shift = uint32_t(to_board.front()) << 1 | 0x200u;
            to_board.pop_front();
            bits = 10, phase = 0;
        }
        t.rx = bits ? shift & 1 : 1;
        if (bits && ++phase == divisor) phase = 0, shift >>= 1, bits--;
        clock();
        quiet = bits || listening >= 0 ? 0 : quiet + 1;
        if (listening < 0) {
            if (!t.tx) listening = divisor + divisor / 2 - 1, heard = 0;
        } else if (listening-- == 0) {
            byte = (heard ? byte : 0) | uint32_t(t.tx) << heard;
            if (++heard == 9) {
                if (!(byte >> 8)) fprintf(stderr, "serial board: no stop bit\n");
                from_board.push_back(out.through(uint8_t(byte)));
                listening = -1;
            } else {
                listening = divisor - 1;
            }
        }
    }
}
