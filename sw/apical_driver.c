/* See apical_driver.h. Not run on silicon. */
#include "apical_driver.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "slots are little-endian"
#endif

enum { SYSTEM = 0x4150434C, INTERFACE = 1 };
#define STOPPING                                                                                                       \
    (APICAL_ERRORS_MALFORMED_MASK | APICAL_ERRORS_INDEX_MASK | APICAL_ERRORS_VALUE_MASK | APICAL_ERRORS_FRAMING_MASK | \
     APICAL_ERRORS_ACCESS_MASK)

int apical_open(apical_board *b) {
    const uint64_t network = APICAL_NETWORK_IDENTITY;
    uint32_t outputs, n;
    if (apical_get(b, APICAL_ID) != SYSTEM) return APICAL_NOBODY;
    if (apical_get(b, APICAL_VERSION) != INTERFACE) return APICAL_OTHER_VERSION;
    if (apical_get(b, APICAL_IDENTITY_HIGH) != (uint32_t)(network >> 32) ||
        apical_get(b, APICAL_IDENTITY_LOW) != (uint32_t)network)
        return APICAL_OTHER_NETWORK;
    if (apical_get(b, APICAL_MAP) != APICAL_MAP_HASH) return APICAL_OTHER_OPTIONS;
    outputs = APICAL_FIELD(apical_get(b, APICAL_PORTS), APICAL_PORTS_OUTPUTS);
    if (outputs > 64) return APICAL_UNFIT;
    b->signed_outputs = 0;
    for (n = 0; n < outputs; n++) { /* a pair of registers per output */
        const uint32_t format = apical_get(b, APICAL_OUTPUT0_FORMAT + 8 * n);
        b->signed_outputs |= (uint64_t)APICAL_FIELD(format, APICAL_OUTPUT0_FORMAT_SIGNED) << n;
    }
    return apical_reset(b);
}

static int wait_for(const apical_board *b, uint32_t offset, uint32_t mask) {
    unsigned long n;
    for (n = 0; n < APICAL_PATIENCE; n++)
        if (!(apical_get(b, offset) & mask)) return APICAL_FINE;
    return APICAL_STUCK;
}

int apical_wait_idle(apical_board *b) { return wait_for(b, APICAL_STATUS, APICAL_STATUS_BUSY_MASK); }

int apical_reset(apical_board *b) {
    unsigned char rest[4 * APICAL_WORD_BYTES] __attribute__((aligned(64)));
    size_t bytes;
    int n;
    apical_set(b, APICAL_CONTROL, APICAL_CONTROL_ENABLE_MASK | APICAL_CONTROL_FLUSH_MASK);
    if (b->stop && b->stop(b->context)) return APICAL_STREAM_FAILED;
    apical_set(b, APICAL_COMMAND, APICAL_COMMAND_SOFT_RESET_MASK);
    /* Twice: STATUS is 0 for a cycle between the reset and the end of a packet that it cut. */
    for (n = 0; n < 2; n++) {
        if (wait_for(b, APICAL_STATUS, APICAL_STATUS_RESETTING_MASK)) return APICAL_STUCK;
        if (apical_get(b, APICAL_STATUS) & APICAL_STATUS_WAITING_MASK) { /* of a packet that the reset ended */
            if (b->start_receive(b->context, rest, sizeof rest) || b->end_receive(b->context, &bytes))
                return APICAL_STREAM_FAILED;
        }
    }
    if (wait_for(b, APICAL_STATUS, ~(uint32_t)0)) return APICAL_STUCK;
    apical_errors(b, 1);
    apical_set(b, APICAL_INTERRUPT_PENDING, apical_get(b, APICAL_INTERRUPT_PENDING));
    apical_set(b, APICAL_FRAMING, 0);
    apical_set(b, APICAL_CONTROL, APICAL_CONTROL_ENABLE_MASK);
    return APICAL_FINE;
}

int apical_run(apical_board *b, const void *words, size_t bytes, void *out, size_t room, size_t *got) {
    if (bytes == 0 || bytes % APICAL_WORD_BYTES || room < APICAL_WORD_BYTES) return APICAL_UNFIT;
    if (b->start_receive(b->context, out, room) || b->send(b->context, words, bytes) ||
        b->end_receive(b->context, got))
        return apical_errors(b, 0) & STOPPING ? APICAL_STREAM_STOPPED : APICAL_STREAM_FAILED;
    return APICAL_FINE;
}

void apical_counters(apical_board *b, uint32_t counters[APICAL_COUNTERS]) {
    uint32_t n;
    apical_set(b, APICAL_COMMAND, APICAL_COMMAND_SNAPSHOT_MASK);
    for (n = 0; n < APICAL_COUNTERS; n++) counters[n] = apical_get(b, APICAL_COUNTER0 + 4 * n);
}

uint32_t apical_errors(apical_board *b, int clear) {
    const uint32_t errors = apical_get(b, APICAL_ERRORS);
    if (clear && errors) apical_set(b, APICAL_ERRORS, errors);
    return errors;
}

#ifdef APICAL_SITE
int apical_load(apical_board *b, uint32_t site, const uint32_t *image, size_t chunks) {
    size_t n;
    if (site >= APICAL_FIELD(apical_get(b, APICAL_BLOCKS), APICAL_BLOCKS_SITES)) return APICAL_UNFIT;
    if (apical_wait_idle(b)) return APICAL_STUCK;
    apical_set(b, APICAL_SITE, site);
    if (chunks != (size_t)apical_get(b, APICAL_SITE_ROWS) * apical_get(b, APICAL_SITE_CHUNKS)) return APICAL_UNFIT;
    for (n = 0; n < chunks; n++) apical_set(b, APICAL_DATA, image[n]);
    apical_set(b, APICAL_SITE, site);
    for (n = 0; n < chunks; n++)
        if (apical_get(b, APICAL_DATA) != image[n]) return APICAL_DIFFERENT;
    return APICAL_FINE;
}
#endif

#ifdef APICAL_POINT
int apical_point(apical_board *b, uint32_t point) {
    if (point >= APICAL_FIELD(apical_get(b, APICAL_FEATURES), APICAL_FEATURES_POINTS)) return APICAL_UNFIT;
    if (apical_wait_idle(b)) return APICAL_STUCK;
    apical_set(b, APICAL_POINT, point);
    return APICAL_FINE;
}
#endif

#ifdef APICAL_LEARN
int apical_learn(apical_board *b, int on) {
    if (apical_wait_idle(b)) return APICAL_STUCK;
    apical_set(b, APICAL_LEARN, on ? APICAL_LEARN_ENABLE_MASK : 0);
    return APICAL_FINE;
}
#endif

void apical_begin(apical_writer *w, apical_in_slot *slots, size_t room) {
    w->slots = slots, w->room = room, w->at = w->tick = 0, w->full = 0;
}

static void add(apical_writer *w, uint64_t slot) {
    if (w->at == w->room) w->full = 1;
    else w->slots[w->at++] = (apical_in_slot)slot;
}

void apical_event(apical_writer *w, uint32_t port, uint32_t index, int64_t value) {
    const uint64_t field = ((uint64_t)value & (((uint64_t)1 << APICAL_IN_VALUE_BITS) - 1)) << APICAL_IN_INDEX_BITS;
    add(w, (uint64_t)APICAL_IN_EVENT | (uint64_t)port << APICAL_IN_PORT_SHIFT | field | index);
}

void apical_end_tick(apical_writer *w, int final) {
    const uint64_t marks = (uint64_t)APICAL_IN_LAST | (final ? (uint64_t)APICAL_IN_FINAL : 0);
    if (w->at == w->tick) add(w, marks); /* a silent tick */
    else w->slots[w->at - 1] = (apical_in_slot)(w->slots[w->at - 1] | marks);
    w->tick = w->at;
}

size_t apical_bytes(apical_writer *w) {
    while (w->at % APICAL_IN_SLOTS && !w->full) add(w, 0);
    return w->full ? 0 : w->at * sizeof(apical_in_slot);
}

void apical_open_packet(apical_reader *r, const apical_board *b, const void *words, size_t bytes) {
    r->slots = (const apical_out_slot *)words;
    r->count = bytes / sizeof(apical_out_slot), r->at = 0;
    r->tick = 0, r->signed_outputs = b->signed_outputs;
}

int apical_next(apical_reader *r, apical_out_event *event) {
    while (r->at < r->count) {
        const uint64_t slot = r->slots[r->at++];
        const uint32_t tick = r->tick;
        if (slot & APICAL_OUT_LAST) r->tick++;
        else if (slot & APICAL_OUT_FINAL) return -1;
        if (slot & APICAL_OUT_EVENT) {
            const uint64_t body = slot & ((uint64_t)APICAL_OUT_FINAL - 1), one = 1;
            const uint64_t range = one << APICAL_OUT_VALUE_BITS;
            const uint64_t field = (body >> APICAL_OUT_INDEX_BITS) & (range - 1);
            event->tick = tick;
            event->port = (uint32_t)(body >> APICAL_OUT_PORT_SHIFT);
            event->index = (uint32_t)(body & ((one << APICAL_OUT_INDEX_BITS) - 1));
            event->value = APICAL_OUT_VALUE_BITS ? (int64_t)field : 1;
            if (r->signed_outputs >> (event->port & 63) & 1 && field & range >> 1) event->value -= (int64_t)range;
            return 1;
        }
    }
    return 0;
}
