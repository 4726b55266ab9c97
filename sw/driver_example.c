/* Runs the sample of apical_design.h on the design and compares every event and counter with golden's.
 *
 * main() returns 0 where all is equal. On a system with a C library it says so. Not run on silicon.
 */
#include "apical_axi_dma.h"
#include "apical_design.h"

#if defined(__STDC_HOSTED__) && __STDC_HOSTED__
#include <stdio.h>
#define SAY(...) printf(__VA_ARGS__)
#else
#define SAY(...) ((void)0)
#endif

static unsigned char packet[APICAL_SAMPLE_ROOM] __attribute__((aligned(64)));
static unsigned char seen[APICAL_SAMPLE_EVENTS + 1];

/* Which of golden's events it is; APICAL_SAMPLE_EVENTS: none of them. Events of a tick come in any order. */
static size_t which(const apical_out_event *e) {
    size_t n;
    for (n = 0; n != APICAL_SAMPLE_EVENTS; n++) {
        const apical_out_event *g = &apical_sample_events[n];
        if (g->tick == e->tick && g->port == e->port && g->index == e->index && g->value == e->value && !seen[n]) break;
    }
    return n;
}

/* The number of differences. */
static unsigned long compare(apical_board *b, size_t bytes) {
    unsigned long wrong = 0;
    uint32_t counters[APICAL_COUNTERS], n;
    apical_out_event event;
    apical_reader reader;
    int more;
    apical_open_packet(&reader, b, packet, bytes);
    while ((more = apical_next(&reader, &event)) > 0) {
        const size_t at = which(&event);
        seen[at] = 1;
        wrong += at == APICAL_SAMPLE_EVENTS;
    }
    for (n = 0; n != APICAL_SAMPLE_EVENTS; n++) wrong += !seen[n];
    wrong += more != 0 || reader.tick != APICAL_SAMPLE_TICKS;
    apical_counters(b, counters);
    for (n = 0; n != APICAL_SAMPLE_COUNTERS; n++) wrong += counters[n] != apical_sample_counters[n];
    return wrong;
}

int main(void) {
    apical_board board;
    apical_axi_dma dma;
    size_t bytes = 0;
    unsigned long wrong;
    int outcome;
    apical_use_axi_dma(&board, &dma, APICAL_BASE, APICAL_DMA_BASE);
    outcome = apical_open(&board);
    if (outcome == APICAL_FINE)
        outcome = apical_run(
            &board, apical_sample_words, sizeof apical_sample_words, packet, sizeof packet, &bytes);
    if (outcome == APICAL_FINE) outcome = apical_wait_idle(&board);
    if (outcome != APICAL_FINE) {
        SAY("failed: outcome %d of apical_driver.h\n", outcome);
        return outcome;
    }
    wrong = compare(&board, bytes);
    if (wrong) {
        SAY("%lu differences from golden\n", wrong);
        return 100;
    }
    SAY("equal: %lu events, %lu counters\n", (unsigned long)APICAL_SAMPLE_EVENTS, (unsigned long)APICAL_SAMPLE_COUNTERS);
    return 0;
}
