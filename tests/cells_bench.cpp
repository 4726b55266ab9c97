// Clocks a module `bench` of clk, i0 ... i3 and o0, o1 (64 bits each) with the numbers on standard input: a row of four
// per cycle. Prints o0 and o1 of each cycle before its rising edge.
#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "model.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

int main() {
    VerilatedContext context;
    Model t(&context);
    t.clk = 0;
    uint64_t i[4];
    while (scanf("%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &i[0], &i[1], &i[2], &i[3]) == 4) {
        t.i0 = i[0], t.i1 = i[1], t.i2 = i[2], t.i3 = i[3];
        t.eval();
        printf("%" PRIu64 " %" PRIu64 "\n", uint64_t(t.o0), uint64_t(t.o1));
        t.clk = 1;
        t.eval();
        t.clk = 0;
        t.eval();
    }
    return 0;
}
