/* A processor's side of apical.sim.overlay's simulator: registers of the design at APICAL_BASE, and an AXI DMA (direct
 * register mode, PG021) at APICAL_DMA_BASE that moves this process's memory. The simulator's path is in the variable
 * SIMULATOR; its commands are those of sim/overlay.cpp.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "apical_design.h"

enum { LONGEST = 1 << 20, CHANNELS = 2 };
static FILE *to, *from;
static char line[LONGEST];
static struct {
    uint64_t address;
    uint32_t length;
    int running, idle, busy;
} channel[CHANNELS]; /* 0 sends, 1 receives */

static void fail(const char *what) {
    fprintf(stderr, "overlay_shim: %s\n", what);
    exit(99);
}

static void begin(void) {
    int down[2], up[2];
    const char *program = getenv("SIMULATOR");
    if (program == NULL || pipe(down) || pipe(up)) fail("no SIMULATOR, or no pipes");
    if (fork() == 0) {
        dup2(down[0], 0), dup2(up[1], 1);
        close(down[0]), close(down[1]), close(up[0]), close(up[1]);
        execl(program, program, "7", (char *)NULL);
        _exit(99);
    }
    close(down[0]), close(up[1]);
    to = fdopen(down[1], "w"), from = fdopen(up[0], "r");
    if (to == NULL || from == NULL) fail("no pipes");
}

/* Sends what was printed to `to`; the answer is in `line`. */
static void ask(void) {
    fputc('\n', to), fflush(to);
    if (fgets(line, LONGEST, from) == NULL) fail("the simulator ended");
}

static void state(unsigned cycles, unsigned long *queued, unsigned long *taken, unsigned *receiving) {
    fprintf(to, "c %x", cycles), ask();
    if (sscanf(line, "%lx %lx %x", queued, taken, receiving) != 3) fail("an answer that isn't one");
}

static void transfer(int receives) {
    const uint32_t words = channel[receives].length / APICAL_WORD_BYTES;
    const unsigned char *raw = (const unsigned char *)(uintptr_t)channel[receives].address;
    uint32_t n, k;
    if (channel[receives].length % APICAL_WORD_BYTES || !channel[receives].running) fail("a transfer that can't be");
    channel[receives].busy = 1, channel[receives].idle = 0;
    if (receives) {
        fprintf(to, "a %x", words);
    } else {
        fprintf(to, "s 1");
        for (n = 0; n < words; n++) {
            fputc(' ', to);
            for (k = APICAL_WORD_BYTES; k-- > 0;) fprintf(to, "%02x", raw[n * APICAL_WORD_BYTES + k]);
        }
    }
    ask();
}

static void received(unsigned long words) {
    unsigned char *raw = (unsigned char *)(uintptr_t)channel[1].address;
    const char *at = line;
    unsigned long n, k;
    unsigned byte;
    fprintf(to, "t"), ask();
    for (n = 0; n < words; n++, at++)
        for (k = APICAL_WORD_BYTES; k-- > 0; at += 2) {
            if (sscanf(at, "%2x", &byte) != 1) fail("words that aren't any");
            raw[n * APICAL_WORD_BYTES + k] = (unsigned char)byte;
        }
    channel[1].length = (uint32_t)(words * APICAL_WORD_BYTES);
}

static uint32_t status(int receives) {
    unsigned long queued, taken;
    unsigned receiving;
    state(50, &queued, &taken, &receiving);
    if (receives && receiving == 2) return 0x11;
    if (channel[receives].busy && (receives ? receiving == 0 : queued == 0)) {
        channel[receives].busy = 0, channel[receives].idle = 1;
        if (receives) received(taken);
    }
    return (channel[receives].idle ? 2u : 0u) | (channel[receives].running ? 0u : 1u);
}

uint32_t apical_read32(uintptr_t address) {
    int response;
    unsigned data;
    if (to == NULL) begin();
    if (address >= APICAL_DMA_BASE) {
        const uint32_t offset = (uint32_t)(address - APICAL_DMA_BASE), at = offset % 0x30;
        const int receives = offset >= 0x30;
        return at == 4 ? status(receives) : at == 0x28 ? channel[receives].length : (uint32_t)channel[receives].running;
    }
    fprintf(to, "r %x", (unsigned)(address - APICAL_BASE)), ask();
    if (sscanf(line, "%d %x", &response, &data) != 2 || response) fail("a read was refused");
    return data;
}

void apical_write32(uintptr_t address, uint32_t value) {
    if (to == NULL) begin();
    if (address >= APICAL_DMA_BASE) {
        const uint32_t offset = (uint32_t)(address - APICAL_DMA_BASE), at = offset % 0x30;
        const int receives = offset >= 0x30;
        if (at == 0 && value & 4) {
            memset(channel, 0, sizeof channel);
            fprintf(to, "x"), ask();
        } else if (at == 0) {
            channel[receives].running = (int)(value & 1);
        } else if (at == 0x18) {
            channel[receives].address = (channel[receives].address & ~(uint64_t)0xFFFFFFFF) | value;
        } else if (at == 0x1C) {
            channel[receives].address = (channel[receives].address & 0xFFFFFFFF) | (uint64_t)value << 32;
        } else if (at == 0x28) {
            channel[receives].length = value;
            transfer(receives);
        }
        return;
    }
    fprintf(to, "w %x %x", (unsigned)(address - APICAL_BASE), (unsigned)value), ask();
    if (strcmp(line, "0\n")) fail("a write was refused");
}
