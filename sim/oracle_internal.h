// sim/oracle_internal.h: what the parts of the oracle share. Nothing else includes this.

#ifndef PHX_SIM_ORACLE_INTERNAL_H
#define PHX_SIM_ORACLE_INTERNAL_H

#include "sim/oracle.h"

// --- oracle_numbers.c: conversions by value, sharing nothing with kernels/numerics.h ------------

#define PHX_ORACLE_E4M3_CODES 127u // magnitudes; the 128th is NaN

float phx__oracle_bf16_value(uint16_t code);
uint16_t phx__oracle_bf16_nearest(float x);
void phx__oracle_e4m3_values(double values[PHX_ORACLE_E4M3_CODES]);
uint8_t phx__oracle_e4m3_nearest(const double values[PHX_ORACLE_E4M3_CODES], float x);
// The exponent byte of a positive scale, rounded up to a power of two, and what channels are
// multiplied by.
uint8_t phx__oracle_power_above(float scale, float *inverse);

// --- oracle.c -----------------------------------------------------------------------------------

int phx__oracle_input_check(const struct phx_oracle_input *input, uint32_t rank,
                            struct phx_message *message);
// Rows of one expert's block in the slots layout.
uint64_t phx__oracle_block_rows(const struct phx_shape *shape);

#endif
