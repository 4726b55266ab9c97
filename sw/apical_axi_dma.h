/* Events through an AXI DMA without scatter and gather (PG021), for apical_driver.h. Polls; needs no other code.
 *
 * Where the processor's cache hides memory from the DMA, define APICAL_FLUSH(address, bytes) and
 * APICAL_INVALIDATE(address, bytes), for example as Xil_DCacheFlushRange and Xil_DCacheInvalidateRange.
 * Not run on silicon.
 */
#ifndef APICAL_AXI_DMA_H
#define APICAL_AXI_DMA_H
#include "apical_driver.h"

typedef struct apical_axi_dma {
    uintptr_t base;
    void *taking; /* where the packet under way goes */
    size_t room;
    int sending;
} apical_axi_dma;

int apical_axi_dma_start_receive(void *context, void *words, size_t room);
int apical_axi_dma_send(void *context, const void *words, size_t bytes);
int apical_axi_dma_end_receive(void *context, size_t *bytes);
int apical_axi_dma_stop(void *context);

/* The design's registers at one address, the DMA's at the other; then apical_open(). */
static inline void apical_use_axi_dma(apical_board *b, apical_axi_dma *dma, uintptr_t base, uintptr_t dma_base) {
    dma->base = dma_base, dma->taking = NULL, dma->room = 0, dma->sending = 0;
    b->base = base, b->context = dma, b->signed_outputs = 0;
    b->start_receive = apical_axi_dma_start_receive, b->send = apical_axi_dma_send;
    b->end_receive = apical_axi_dma_end_receive, b->stop = apical_axi_dma_stop;
}

#endif
