// bench/scale_floor.h: what no simulator of real bytes can do without, timed by itself.

#ifndef PHX_BENCH_SCALE_FLOOR_H
#define PHX_BENCH_SCALE_FLOOR_H

#include <stdbool.h>
#include <stdint.h>

struct scale_floor {
    uint32_t ranks;
    uint32_t rows;       // of a rank, to peers drawn evenly
    uint32_t row_bytes;  // as they are sent
    uint64_t pair_bytes; // from one pair's memory to the next
    bool is_huge;        // pairs' memory lies in huge pages
};

// Sends and receives once, and leaves its memory to the end of the process. Returns the number of
// messages; 0: no memory.
uint64_t scale_floor_run(const struct scale_floor *floor);

#endif
