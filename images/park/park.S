/*
 * The parking ROM: 64 KiB whose reset vector stops the vCPU with interrupts off. The machine then
 * counts as running, so its devices work, and no guest code ever touches them.
 */
    .code16
    .section .text
    .org 0xfff0, 0xff
    .globl _start
_start:                 /* F000:FFF0, where an x86 processor starts */
    cli
1:  hlt
    jmp 1b
    .org 0x10000, 0xff
