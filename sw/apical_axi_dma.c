/* See apical_axi_dma.h. Register offsets and bits: AMD PG021, AXI DMA 7.1, direct register mode. Not run on silicon. */
#include "apical_axi_dma.h"

#ifndef APICAL_FLUSH
#define APICAL_FLUSH(address, bytes) ((void)(address), (void)(bytes))
#endif
#ifndef APICAL_INVALIDATE
#define APICAL_INVALIDATE(address, bytes) ((void)(address), (void)(bytes))
#endif

enum { SEND = 0x00, RECEIVE = 0x30 }; /* the channels' registers */
enum { CONTROL = 0x00, STATUS = 0x04, ADDRESS = 0x18, ADDRESS_HIGH = 0x1C, LENGTH = 0x28 };
enum { RUN = 1, RESET = 4, HALTED = 1, IDLE = 2, FAILED = 0x70 };

static uint32_t get(const apical_axi_dma *d, uint32_t offset) { return apical_read32(d->base + offset); }
static void set(const apical_axi_dma *d, uint32_t offset, uint32_t value) { apical_write32(d->base + offset, value); }

static int wait_idle(const apical_axi_dma *d, uint32_t channel) {
    unsigned long n;
    for (n = 0; n < APICAL_PATIENCE; n++) {
        const uint32_t status = get(d, channel + STATUS);
        if (status & (FAILED | HALTED)) return 1;
        if (status & IDLE) return 0;
    }
    return 1;
}

static void start(const apical_axi_dma *d, uint32_t channel, uintptr_t address, size_t bytes) {
    __sync_synchronize(); /* the words are in memory before the DMA looks */
    set(d, channel + ADDRESS, (uint32_t)address);
    set(d, channel + ADDRESS_HIGH, (uint32_t)((uint64_t)address >> 32));
    set(d, channel + LENGTH, (uint32_t)bytes);
}

int apical_axi_dma_start_receive(void *context, void *words, size_t room) {
    apical_axi_dma *d = (apical_axi_dma *)context;
    APICAL_FLUSH(words, room); /* nothing of the cache may be written over what comes */
    d->taking = words, d->room = room;
    start(d, RECEIVE, (uintptr_t)words, room);
    return 0;
}

int apical_axi_dma_send(void *context, const void *words, size_t bytes) {
    apical_axi_dma *d = (apical_axi_dma *)context;
    if (d->sending && wait_idle(d, SEND)) return 1;
    APICAL_FLUSH(words, bytes);
    d->sending = 1;
    start(d, SEND, (uintptr_t)words, bytes);
    return 0;
}

int apical_axi_dma_end_receive(void *context, size_t *bytes) {
    apical_axi_dma *d = (apical_axi_dma *)context;
    if (d->taking == NULL || wait_idle(d, RECEIVE)) return 1;
    *bytes = get(d, RECEIVE + LENGTH);
    __sync_synchronize();
    APICAL_INVALIDATE(d->taking, d->room);
    d->taking = NULL;
    return 0;
}

int apical_axi_dma_stop(void *context) {
    apical_axi_dma *d = (apical_axi_dma *)context;
    unsigned long n;
    set(d, SEND + CONTROL, RESET); /* resets both channels */
    for (n = 0; get(d, SEND + CONTROL) & RESET; n++)
        if (n == APICAL_PATIENCE) return 1;
    set(d, SEND + CONTROL, RUN);
    set(d, RECEIVE + CONTROL, RUN);
    d->taking = NULL, d->sending = 0;
    return 0;
}
