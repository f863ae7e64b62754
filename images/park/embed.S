/* The ROM as bytes inside the program, so that it needs no file when it runs. */
    .section .rodata
    .globl park_rom
    .globl park_rom_end
park_rom:
    .incbin PARK_ROM
park_rom_end:
    .section .note.GNU-stack, "", %progbits
