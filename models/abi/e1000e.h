/*
 * Intel 82574 (QEMU's e1000e): the registers of BAR 0 that bring the chip up, move packets and
 * raise interrupts. Follows Intel's 82574 datasheet, section 10; statistics and time stamps are
 * left out. Names are the datasheet's.
 */
#ifndef RINGLAB_ABI_E1000E_H
#define RINGLAB_ABI_E1000E_H

#include "models/abi/reg.h"

enum {
    E1000E_VENDOR_ID = 0x8086,
    E1000E_DEVICE_ID = 0x10d3,
    E1000E_BAR_MMIO = 0,
    E1000E_BAR_FLASH = 1,
    E1000E_BAR_IO = 2,
    E1000E_BAR_MSIX = 3,
    E1000E_MMIO_BYTES = 0x20000,
};

/* clang-format off */
#define E1000E_CTRL_FIELDS(F)                                                                      \
    F(E1000E_CTRL_FD,      FD,       0, 1, "full duplex")                                          \
    F(E1000E_CTRL_GIO_MASTER_DISABLE, GIO_MASTER_DISABLE, 2, 1, "no new requests as a master")     \
    F(E1000E_CTRL_ASDE,    ASDE,     5, 1, "speed detection")                                      \
    F(E1000E_CTRL_SLU,     SLU,      6, 1, "set link up")                                          \
    F(E1000E_CTRL_SPEED,   SPEED,    8, 2, "0 10, 1 100, 2 1000 Mbit/s")                           \
    F(E1000E_CTRL_FRCSPD,  FRCSPD,  11, 1, "force speed")                                          \
    F(E1000E_CTRL_FRCDPLX, FRCDPLX, 12, 1, "force duplex")                                         \
    F(E1000E_CTRL_RST,     RST,     26, 1, "resets the chip")                                      \
    F(E1000E_CTRL_RFCE,    RFCE,    27, 1, "receive flow control")                                 \
    F(E1000E_CTRL_TFCE,    TFCE,    28, 1, "transmit flow control")                                \
    F(E1000E_CTRL_VME,     VME,     30, 1, "VLAN mode")                                            \
    F(E1000E_CTRL_PHY_RST, PHY_RST, 31, 1, "resets the PHY")
#define E1000E_STATUS_FIELDS(F)                                                                    \
    F(E1000E_STATUS_FD,    FD,     0, 1, "full duplex")                                            \
    F(E1000E_STATUS_LU,    LU,     1, 1, "link up")                                                \
    F(E1000E_STATUS_TXOFF, TXOFF,  4, 1, "transmission paused")                                    \
    F(E1000E_STATUS_SPEED, SPEED,  6, 2, "0 10, 1 100, 2 1000 Mbit/s")                             \
    F(E1000E_STATUS_ASDV,  ASDV,   8, 2, "detected speed")                                         \
    F(E1000E_STATUS_PHYRA, PHYRA, 10, 1, "PHY was reset")                                          \
    F(E1000E_STATUS_GIO_MASTER_ENABLE, GIO_MASTER_ENABLE, 19, 1, "requests as a master go on")
#define E1000E_EERD_FIELDS(F)                                                                      \
    F(E1000E_EERD_START, START, 0, 1, "starts a read")                                             \
    F(E1000E_EERD_DONE,  DONE,  1, 1, "read is done")                                              \
    F(E1000E_EERD_ADDR,  ADDR,  2, 14, "word address")                                             \
    F(E1000E_EERD_DATA,  DATA, 16, 16, "word read")
#define E1000E_MDIC_FIELDS(F)                                                                      \
    F(E1000E_MDIC_DATA,   DATA,    0, 16, "PHY register's value")                                  \
    F(E1000E_MDIC_REGADD, REGADD, 16,  5, "PHY register")                                          \
    F(E1000E_MDIC_PHYADD, PHYADD, 21,  5, "PHY, 1")                                                \
    F(E1000E_MDIC_OP,     OP,     26,  2, "1 write, 2 read")                                       \
    F(E1000E_MDIC_R,      R,      28,  1, "ready")                                                 \
    F(E1000E_MDIC_I,      I,      29,  1, "interrupt when done")                                   \
    F(E1000E_MDIC_E,      E,      30,  1, "error")
#define E1000E_ICR_FIELDS(F)                                                                       \
    F(E1000E_ICR_TXDW,    TXDW,    0, 1, "transmit descriptor written back")                       \
    F(E1000E_ICR_TXQE,    TXQE,    1, 1, "transmit queue empty")                                   \
    F(E1000E_ICR_LSC,     LSC,     2, 1, "link status change")                                     \
    F(E1000E_ICR_RXDMT0,  RXDMT0,  4, 1, "few receive descriptors left")                           \
    F(E1000E_ICR_RXO,     RXO,     6, 1, "receiver overrun")                                       \
    F(E1000E_ICR_RXT0,    RXT0,    7, 1, "receive timer")                                          \
    F(E1000E_ICR_RXQ0,    RXQ0,   20, 1, "receive queue 0")                                        \
    F(E1000E_ICR_RXQ1,    RXQ1,   21, 1, "receive queue 1")                                        \
    F(E1000E_ICR_TXQ0,    TXQ0,   22, 1, "transmit queue 0")                                       \
    F(E1000E_ICR_TXQ1,    TXQ1,   23, 1, "transmit queue 1")                                       \
    F(E1000E_ICR_OTHER,   OTHER,  24, 1, "other causes")                                           \
    F(E1000E_ICR_ASSERTED, INT_ASSERTED, 31, 1, "interrupt is asserted")
#define E1000E_RCTL_FIELDS(F)                                                                      \
    F(E1000E_RCTL_EN,    EN,     1, 1, "receiver on")                                              \
    F(E1000E_RCTL_SBP,   SBP,    2, 1, "store bad packets")                                        \
    F(E1000E_RCTL_UPE,   UPE,    3, 1, "unicast promiscuous")                                      \
    F(E1000E_RCTL_MPE,   MPE,    4, 1, "multicast promiscuous")                                    \
    F(E1000E_RCTL_LPE,   LPE,    5, 1, "long packets")                                             \
    F(E1000E_RCTL_LBM,   LBM,    6, 2, "loopback mode")                                            \
    F(E1000E_RCTL_RDMTS, RDMTS,  8, 2, "threshold of RXDMT0")                                      \
    F(E1000E_RCTL_DTYP,  DTYP,  10, 2, "descriptor type")                                          \
    F(E1000E_RCTL_MO,    MO,    12, 2, "multicast offset")                                         \
    F(E1000E_RCTL_BAM,   BAM,   15, 1, "accept broadcast")                                         \
    F(E1000E_RCTL_BSIZE, BSIZE, 16, 2, "buffer size")                                              \
    F(E1000E_RCTL_VFE,   VFE,   18, 1, "VLAN filter")                                              \
    F(E1000E_RCTL_BSEX,  BSEX,  25, 1, "buffer size times 16")                                     \
    F(E1000E_RCTL_SECRC, SECRC, 26, 1, "strip the CRC")
#define E1000E_TCTL_FIELDS(F)                                                                      \
    F(E1000E_TCTL_EN,   EN,    1, 1, "transmitter on")                                             \
    F(E1000E_TCTL_PSP,  PSP,   3, 1, "pad short packets")                                          \
    F(E1000E_TCTL_CT,   CT,    4, 8, "collision threshold")                                        \
    F(E1000E_TCTL_COLD, COLD, 12, 10, "collision distance")

/* Queue n of the receive and transmit side lies n * 0x100 further. */
#define E1000E_REGISTERS(R)                                                                        \
    R(E1000E_CTRL,     CTRL,     0x00000, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(e1000e_ctrl), "device control; bit 26 resets") \
    R(E1000E_STATUS,   STATUS,   0x00008, 4, RO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(e1000e_status), "device status") \
    R(E1000E_EECD,     EECD,     0x00010, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "EEPROM control") \
    R(E1000E_EERD,     EERD,     0x00014, 4, RW, 0, 0x2, ABI_ONE, ABI_FIELDS(e1000e_eerd), "EEPROM read") \
    R(E1000E_CTRL_EXT, CTRL_EXT, 0x00018, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "device control, more; bit 13 reloads the EEPROM") \
    R(E1000E_MDIC,     MDIC,     0x00020, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(e1000e_mdic), "PHY register access") \
    R(E1000E_FCAL,     FCAL,     0x00028, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "flow control address, low") \
    R(E1000E_FCAH,     FCAH,     0x0002c, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "flow control address, high") \
    R(E1000E_FCT,      FCT,      0x00030, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "flow control type") \
    R(E1000E_VET,      VET,      0x00038, 4, RW, 0, 0x8100, ABI_ONE, ABI_NONE, "VLAN EtherType") \
    R(E1000E_ICR,      ICR,      0x000c0, 4, RC, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(e1000e_icr), "interrupt causes") \
    R(E1000E_ITR,      ITR,      0x000c4, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "interrupt throttling, 256 ns") \
    R(E1000E_ICS,      ICS,      0x000c8, 4, WO, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(e1000e_icr), "sets interrupt causes") \
    R(E1000E_IMS,      IMS,      0x000d0, 4, RW1S, 0, 0, ABI_ONE, ABI_FIELDS(e1000e_icr), "interrupt mask; ones set bits") \
    R(E1000E_IMC,      IMC,      0x000d8, 4, WO, 0, 0, ABI_ONE, ABI_FIELDS(e1000e_icr), "ones clear bits of the mask") \
    R(E1000E_EIAC,     EIAC,     0x000dc, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "causes cleared by their MSI-X message") \
    R(E1000E_IAM,      IAM,      0x000e0, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "mask bits cleared by reading ICR") \
    R(E1000E_IVAR,     IVAR,     0x000e4, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "which cause goes to which vector") \
    R(E1000E_EITR,     EITR,     0x000e8, 4, RW, ABI_VARIES, 0, ABI_MANY(5, 4), ABI_NONE, "throttling of each vector") \
    R(E1000E_RCTL,     RCTL,     0x00100, 4, RW, 0, 0, ABI_ONE, ABI_FIELDS(e1000e_rctl), "receive control") \
    R(E1000E_FCTTV,    FCTTV,    0x00170, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "flow control transmit timer") \
    R(E1000E_TCTL,     TCTL,     0x00400, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_FIELDS(e1000e_tctl), "transmit control") \
    R(E1000E_TIPG,     TIPG,     0x00410, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "inter-packet gap") \
    R(E1000E_AIT,      AIT,      0x00458, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "adaptive inter-frame spacing") \
    R(E1000E_LEDCTL,   LEDCTL,   0x00e00, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "lights") \
    R(E1000E_PBA,      PBA,      0x01000, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "packet buffer split") \
    R(E1000E_RDBAL0,   RDBAL0,   0x02800, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive ring address, low") \
    R(E1000E_RDBAH0,   RDBAH0,   0x02804, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive ring address, high") \
    R(E1000E_RDLEN0,   RDLEN0,   0x02808, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive ring bytes") \
    R(E1000E_RDH0,     RDH0,     0x02810, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive head, the device's") \
    R(E1000E_RDT0,     RDT0,     0x02818, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive tail, the driver's") \
    R(E1000E_RDTR0,    RDTR,     0x02820, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive interrupt delay") \
    R(E1000E_RXDCTL0,  RXDCTL0,  0x02828, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "receive descriptor thresholds") \
    R(E1000E_RADV,     RADV,     0x0282c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "receive interrupt absolute delay") \
    R(E1000E_TDBAL0,   TDBAL0,   0x03800, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit ring address, low") \
    R(E1000E_TDBAH0,   TDBAH0,   0x03804, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit ring address, high") \
    R(E1000E_TDLEN0,   TDLEN0,   0x03808, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit ring bytes") \
    R(E1000E_TDH0,     TDH0,     0x03810, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit head, the device's") \
    R(E1000E_TDT0,     TDT0,     0x03818, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit tail, the driver's") \
    R(E1000E_TIDV,     TIDV,     0x03820, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit interrupt delay") \
    R(E1000E_TXDCTL0,  TXDCTL0,  0x03828, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "transmit descriptor thresholds") \
    R(E1000E_TADV,     TADV,     0x0382c, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "transmit interrupt absolute delay") \
    R(E1000E_RXCSUM,   RXCSUM,   0x05000, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "receive checksum offload") \
    R(E1000E_RFCTL,    RFCTL,    0x05008, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "receive filter control") \
    R(E1000E_MTA,      MTA,      0x05200, 4, RW, 0, 0, ABI_MANY(128, 4), ABI_NONE, "multicast table") \
    R(E1000E_RA,       RA,       0x05400, 4, RW, ABI_VARIES, 0, ABI_MANY(32, 4), ABI_NONE, "receive addresses: RAL and RAH in turn") \
    R(E1000E_VFTA,     VFTA,     0x05600, 4, RW, 0, 0, ABI_MANY(128, 4), ABI_NONE, "VLAN filter table") \
    R(E1000E_WUC,      WUC,      0x05800, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "wake-up control") \
    R(E1000E_WUFC,     WUFC,     0x05808, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "wake-up filter control") \
    R(E1000E_MRQC,     MRQC,     0x05818, 4, RW, 0, 0, ABI_ONE, ABI_NONE, "multiple receive queues") \
    R(E1000E_SWSM,     SWSM,     0x05b50, 4, RW, ABI_VARIES, 0, ABI_ONE, ABI_NONE, "software semaphore")
/* clang-format on */

enum e1000e_offset { E1000E_REGISTERS(ABI_ENUM_OFFSET) };
enum e1000e_field {
    E1000E_CTRL_FIELDS(ABI_ENUM_FIELD)   /* */
    E1000E_STATUS_FIELDS(ABI_ENUM_FIELD) /* */
    E1000E_EERD_FIELDS(ABI_ENUM_FIELD)   /* */
    E1000E_MDIC_FIELDS(ABI_ENUM_FIELD)   /* */
    E1000E_ICR_FIELDS(ABI_ENUM_FIELD)    /* */
    E1000E_RCTL_FIELDS(ABI_ENUM_FIELD)   /* */
    E1000E_TCTL_FIELDS(ABI_ENUM_FIELD)   /* */
};

#endif
