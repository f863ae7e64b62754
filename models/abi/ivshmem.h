/*
 * QEMU's inter-VM shared memory device: its registers, and the messages of the doorbell server.
 * Follows QEMU's docs/specs/ivshmem-spec.txt.
 */
#ifndef RINGLAB_ABI_IVSHMEM_H
#define RINGLAB_ABI_IVSHMEM_H

#include "models/abi/reg.h"

enum {
    IVSHMEM_VENDOR_ID = 0x1af4,
    IVSHMEM_DEVICE_ID = 0x1110,
    IVSHMEM_BAR_REGISTERS = 0,
    IVSHMEM_BAR_MSIX = 1, /* doorbell only */
    IVSHMEM_BAR_MEMORY = 2,
    IVSHMEM_REGS_BYTES = 256,
    IVSHMEM_MAX_PEER_ID = 65535,
    IVSHMEM_MAX_VECTOR = 255,

    IVSHMEM_PROTOCOL_VERSION = 0, /* the server's first message */
};

/* clang-format off */
#define IVSHMEM_DOORBELL_FIELDS(F)                                                                 \
    F(IVSHMEM_DOORBELL_VECTOR, vector, 0,  8, "which of the peer's interrupts")                    \
    F(IVSHMEM_DOORBELL_PEER,   peer,   16, 16, "whom to interrupt")
#define IVSHMEM_REGISTERS(R)                                                                       \
    R(IVSHMEM_INTR_MASK,   IntrMask,   0x00, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "without use where there is MSI-X") \
    R(IVSHMEM_INTR_STATUS, IntrStatus, 0x04, 4, RC, 0, 0, ABI_ONE, ABI_NONE, "without use where there is MSI-X; reading clears it") \
    R(IVSHMEM_IV_POSITION, IVPosition, 0x08, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "this device's peer id; plain: 0") \
    R(IVSHMEM_DOORBELL,    Doorbell,   0x0c, 4, WO, 0, 0, ABI_ONE, ABI_FIELDS(ivshmem_doorbell), "interrupts a peer")
/* clang-format on */

enum ivshmem_offset { IVSHMEM_REGISTERS(ABI_ENUM_OFFSET) };
enum ivshmem_field { IVSHMEM_DOORBELL_FIELDS(ABI_ENUM_FIELD) };

#endif
