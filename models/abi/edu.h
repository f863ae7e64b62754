/*
 * QEMU's educational device. Follows QEMU's docs/specs/edu.txt. Below 0x80 it takes 4-byte accesses
 * only, from 0x80 on 4 or 8 bytes.
 */
#ifndef RINGLAB_ABI_EDU_H
#define RINGLAB_ABI_EDU_H

#include "models/abi/reg.h"

enum {
    EDU_VENDOR_ID = 0x1234,
    EDU_DEVICE_ID = 0x11e8,
    EDU_BAR = 0,
    EDU_BAR_BYTES = 1 << 20,
    EDU_DMA_BUFFER = 0x40000, /* device address of its 4 KiB DMA buffer */
};

/* clang-format off */
#define EDU_ID_FIELDS(F)                                                                           \
    F(EDU_ID_MAGIC, magic,  0, 16, "0x00ed")                                                       \
    F(EDU_ID_MINOR, minor, 16,  8, "minor version")                                                \
    F(EDU_ID_MAJOR, major, 24,  8, "major version")
#define EDU_STATUS_FIELDS(F)                                                                       \
    F(EDU_STATUS_COMPUTING, computing, 0, 1, "factorial is being computed")                        \
    F(EDU_STATUS_RAISE_IRQ, raise_irq, 7, 1, "interrupt when the factorial is done")
#define EDU_DMA_CMD_FIELDS(F)                                                                      \
    F(EDU_DMA_CMD_START,     start,     0, 1, "starts the transfer; reads 1 while it runs")        \
    F(EDU_DMA_CMD_FROM_EDU,  from_edu,  1, 1, "0: memory to device, 1: device to memory")          \
    F(EDU_DMA_CMD_RAISE_IRQ, raise_irq, 2, 1, "interrupt 0x100 when done")
/* A transfer outside the device's buffer ends QEMU, and the factorial of a large number keeps it
 * busy for long: neither is probed by writing. */
#define EDU_REGISTERS(R)                                                                           \
    R(EDU_ID,         id,         0x00, 4, RO, 0, 0x010000ed, ABI_ONE, ABI_FIELDS(edu_id), "identification") \
    R(EDU_LIVENESS,   liveness,   0x04, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "reads as the inverse of what was written") \
    R(EDU_FACTORIAL,  factorial,  0x08, 4, RW, ABI_UNSAFE, 0, ABI_ONE, ABI_NONE, "replaces what is written by its factorial") \
    R(EDU_STATUS,     status,     0x20, 4, RW, 0, 0, ABI_ONE, ABI_FIELDS(edu_status), "computing, interrupt wanted") \
    R(EDU_IRQ_STATUS, irq_status, 0x24, 4, RO, 0, 0, ABI_ONE, ABI_NONE, "interrupts raised") \
    R(EDU_IRQ_RAISE,  irq_raise,  0x60, 4, WO, 0, 0, ABI_ONE, ABI_NONE, "sets bits of irq_status") \
    R(EDU_IRQ_ACK,    irq_ack,    0x64, 4, WO, 0, 0, ABI_ONE, ABI_NONE, "clears bits of irq_status") \
    R(EDU_DMA_SRC,    dma_source, 0x80, 8, RW, 0, 0, ABI_ONE, ABI_NONE, "where from") \
    R(EDU_DMA_DST,    dma_destination, 0x88, 8, RW, 0, 0, ABI_ONE, ABI_NONE, "where to") \
    R(EDU_DMA_COUNT,  dma_count,  0x90, 8, RW, 0, 0, ABI_ONE, ABI_NONE, "bytes") \
    R(EDU_DMA_CMD,    dma_cmd,    0x98, 8, RW, ABI_UNSAFE, 0, ABI_ONE, ABI_FIELDS(edu_dma_cmd), "start and direction")
/* clang-format on */

enum edu_offset { EDU_REGISTERS(ABI_ENUM_OFFSET) };
enum edu_field {
    EDU_ID_FIELDS(ABI_ENUM_FIELD)      /* */
    EDU_STATUS_FIELDS(ABI_ENUM_FIELD)  /* */
    EDU_DMA_CMD_FIELDS(ABI_ENUM_FIELD) /* */
};

#endif
