/* A network behind AXI, from C99 without an operating system: no memory is allocated, nothing is printed.
 *
 * Registers and words are those of docs/reference/axi.md; apical_registers.h is generated with the design. Registers are
 * read and written through volatile pointers, or, with APICAL_EXTERNAL_ACCESS, by two functions of yours. Events go
 * through four functions of yours; apical_axi_dma.h has them for an AXI DMA. Little-endian processors only.
 * Not run on silicon.
 */
#ifndef APICAL_DRIVER_H
#define APICAL_DRIVER_H
#include <stddef.h>
#include <stdint.h>

#include "apical_registers.h"

#if APICAL_IN_SLOT_BITS == 16
typedef uint16_t apical_in_slot;
#elif APICAL_IN_SLOT_BITS == 32
typedef uint32_t apical_in_slot;
#else
typedef uint64_t apical_in_slot;
#endif
#if APICAL_OUT_SLOT_BITS == 16
typedef uint16_t apical_out_slot;
#elif APICAL_OUT_SLOT_BITS == 32
typedef uint32_t apical_out_slot;
#else
typedef uint64_t apical_out_slot;
#endif

#define APICAL_WORD_BYTES (APICAL_IN_SLOTS * APICAL_IN_SLOT_BITS / 8u)
#define APICAL_FIELD(value, name) (((value) & name##_MASK) >> name##_SHIFT)
#ifndef APICAL_PATIENCE
#define APICAL_PATIENCE 10000000ul /* reads of a register before it counts as stuck */
#endif

enum apical_outcome {
    APICAL_FINE = 0,
    APICAL_NOBODY,         /* no apical system at the address */
    APICAL_OTHER_VERSION,  /* of the registers */
    APICAL_OTHER_NETWORK,  /* than apical_registers.h is of */
    APICAL_OTHER_OPTIONS,  /* the network, but built in another way */
    APICAL_STUCK,          /* a register didn't change in time */
    APICAL_STREAM_FAILED,  /* one of your functions said so; apical_errors() may know why */
    APICAL_STREAM_STOPPED, /* sticky errors: apical_errors(); only apical_reset() helps */
    APICAL_UNFIT,          /* an argument that the design can't take */
    APICAL_DIFFERENT       /* weights read other than written */
};

/* A design and the way to it. The functions return 0, or anything else for a failure. */
typedef struct apical_board {
    uintptr_t base; /* of the registers */
    void *context;  /* what the functions get */
    int (*start_receive)(void *context, void *words, size_t room); /* the next packet, room bytes; don't wait */
    int (*send)(void *context, const void *words, size_t bytes);   /* with TLAST on the last word; don't wait */
    int (*end_receive)(void *context, size_t *bytes);              /* wait for the packet: how long it was */
    int (*stop)(void *context);                                    /* forget both; may be NULL where there's nothing */
    uint64_t signed_outputs; /* apical_open() fills it in */
} apical_board;

#ifdef APICAL_EXTERNAL_ACCESS
uint32_t apical_read32(uintptr_t address);
void apical_write32(uintptr_t address, uint32_t value);
#else
static inline uint32_t apical_read32(uintptr_t address) { return *(volatile uint32_t *)address; }
static inline void apical_write32(uintptr_t address, uint32_t value) { *(volatile uint32_t *)address = value; }
#endif

static inline uint32_t apical_get(const apical_board *b, uint32_t offset) { return apical_read32(b->base + offset); }
static inline void apical_set(const apical_board *b, uint32_t offset, uint32_t value) {
    apical_write32(b->base + offset, value);
}

/* Is it the design of apical_registers.h? Then begin anew: all of apical_reset(). */
int apical_open(apical_board *b);
/* From whatever happened to a state with nothing under way, counters 0, no errors; weights stay. */
int apical_reset(apical_board *b);
/* Send a sample's words, take the packet that comes of it. */
int apical_run(apical_board *b, const void *words, size_t bytes, void *out, size_t room, size_t *got);
/* Wait until no sample is under way. */
int apical_wait_idle(apical_board *b);
/* All counters since the last reset, modulo 2^32, of one moment. */
void apical_counters(apical_board *b, uint32_t counters[APICAL_COUNTERS]);
/* Sticky errors, APICAL_ERRORS_..._MASK; clear != 0: those seen are cleared. */
uint32_t apical_errors(apical_board *b, int clear);
#ifdef APICAL_SITE
/* Load a site's weights from row 0 on, and read them back; chunks is SITE_ROWS x SITE_CHUNKS.
 * `apical.sw.axi_weights.Site.image` makes them. */
int apical_load(apical_board *b, uint32_t site, const uint32_t *image, size_t chunks);
#endif
#ifdef APICAL_POINT
int apical_point(apical_board *b, uint32_t point); /* of the gates; between samples */
#endif
#ifdef APICAL_LEARN
int apical_learn(apical_board *b, int on); /* between samples */
#endif

/* Words of a sample, written into an array of yours. */
typedef struct apical_writer {
    apical_in_slot *slots;
    size_t room, at;   /* in slots */
    size_t tick;       /* first slot of the tick */
    int full;          /* there was no room: apical_bytes() is 0 */
} apical_writer;
void apical_begin(apical_writer *w, apical_in_slot *slots, size_t room);
/* An event: index by apical_registers.h for maps, else the channel's number; value 1 for spikes. In learning designs
 * the port after the last input is the label. */
void apical_event(apical_writer *w, uint32_t port, uint32_t index, int64_t value);
void apical_end_tick(apical_writer *w, int final); /* final != 0: the sample ends too */
size_t apical_bytes(apical_writer *w);             /* pads to a whole word; how long all is */

/* Events in words that came. */
typedef struct apical_reader {
    const apical_out_slot *slots;
    size_t count, at; /* in slots */
    uint32_t tick;
    uint64_t signed_outputs;
} apical_reader;
typedef struct apical_out_event {
    uint32_t tick, port, index;
    int64_t value;
} apical_out_event;
void apical_open_packet(apical_reader *r, const apical_board *b, const void *words, size_t bytes);
/* 1: an event; 0: no more, and reader.tick ticks have ended; -1: a soft reset cut the packet. */
int apical_next(apical_reader *r, apical_out_event *event);

#endif
