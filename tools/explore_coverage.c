// tools/explore_coverage.c: which fault struck in which phase of an operation, as a table.
//
// A cell that stays empty has a reason, or is called out. A reason is a claim about the program: a
// cell that has one and is struck all the same says that the claim is wrong.

#include <inttypes.h>
#include <string.h>

#include "tools/explore.h"

struct row {
    uint32_t kind;
    uint32_t unit; // 0: of links and partitions; ANY_UNIT: whichever
    const char *name;
};
#define ANY_UNIT 0xFFFFFFFFu

static const struct row ROWS[] = {
    {PHX_FAULT_KILL, PHX_UNIT_PROCESS, "kill process"},
    {PHX_FAULT_KILL, PHX_UNIT_HOST, "kill host"},
    {PHX_FAULT_KILL, PHX_UNIT_GPU, "kill gpu"},
    {PHX_FAULT_KILL, PHX_UNIT_NIC, "kill nic"},
    {PHX_FAULT_HANG, PHX_UNIT_PROCESS, "hang process"},
    {PHX_FAULT_HANG, PHX_UNIT_HOST, "hang host"},
    {PHX_FAULT_HANG, PHX_UNIT_GPU, "hang gpu"},
    {PHX_FAULT_HANG, PHX_UNIT_NIC, "hang nic"},
    {PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, "pause process"},
    {PHX_FAULT_PAUSE, PHX_UNIT_HOST, "pause host"},
    {PHX_FAULT_PAUSE, PHX_UNIT_GPU, "pause gpu"},
    {PHX_FAULT_PAUSE, PHX_UNIT_NIC, "pause nic"},
    {PHX_FAULT_SLOW, ANY_UNIT, "slow process"},
    {PHX_FAULT_RESTART, ANY_UNIT, "restart"},
    {PHX_FAULT_LINK_DOWN, ANY_UNIT, "link down"},
    {PHX_FAULT_LINK_FLAP, ANY_UNIT, "link flap"},
    {PHX_FAULT_LINK_ONE_WAY, ANY_UNIT, "link one way"},
    {PHX_FAULT_LINK_DEGRADED, ANY_UNIT, "link degraded"},
    {PHX_FAULT_LINK_LOSSY, ANY_UNIT, "link lossy"},
    {PHX_FAULT_PARTITION, ANY_UNIT, "partition"},
    {PHX_FAULT_DELAY, ANY_UNIT, "delay"},
    {PHX_FAULT_DUPLICATE, ANY_UNIT, "duplicate"},
    {PHX_FAULT_CLOCK_OFFSET, ANY_UNIT, "clock offset"},
    {PHX_FAULT_BIT_FLIP, ANY_UNIT, "bit flip"},
};
#define ROW_COUNT ((uint32_t)(sizeof ROWS / sizeof ROWS[0]))
static_assert(sizeof ROWS / sizeof ROWS[0] <= PHX_COVERAGE_ROWS_MAX, "the bits hold every row");
static_assert(PHX_COLUMNS <= 8, "a row has 8 bits");

static const char *const COLUMN_NAMES[PHX_COLUMNS] = {
    [PHX_COLUMN_OPENING] = "opening",
    [PHX_COLUMN_DISPATCH_SEND] = "disp send",
    [PHX_COLUMN_DISPATCH_RECEIVE] = "disp recv",
    [PHX_COLUMN_BETWEEN] = "between",
    [PHX_COLUMN_COMBINE_SEND] = "comb send",
    [PHX_COLUMN_COMBINE_RECEIVE] = "comb recv",
    [PHX_COLUMN_CLOSING] = "closing",
};

uint32_t phx_coverage_rows(void)
{
    return ROW_COUNT;
}

const char *phx_coverage_row_name(uint32_t row)
{
    return row < ROW_COUNT ? ROWS[row].name : NULL;
}

uint32_t phx_coverage_row_of(const struct phx_fault *fault)
{
    for (uint32_t row = 0; row < ROW_COUNT; row++)
        if (ROWS[row].kind == fault->kind &&
            (ROWS[row].unit == ANY_UNIT || ROWS[row].unit == fault->unit))
            return row;
    return PHX_COVERAGE_ROWS_MAX;
}

const char *phx_coverage_column_name(enum phx_column column)
{
    return COLUMN_NAMES[column];
}

const char *phx_coverage_reason(uint32_t row, enum phx_column column)
{
    (void)column;
    if (row < ROW_COUNT && ROWS[row].kind == PHX_FAULT_RESTART)
        return "a rank that came back can join no group before membership is built";
    return NULL;
}

static enum phx_column column_of(const struct phx_strike *strike)
{
    if (strike->kind == 0)
        return PHX_COLUMN_CLOSING; // every operation of the rank had ended
    switch (strike->phase) {
    case PHX_PHASE_DISPATCH_SEND:
        return PHX_COLUMN_DISPATCH_SEND;
    case PHX_PHASE_DISPATCH_RECEIVE:
        return PHX_COLUMN_DISPATCH_RECEIVE;
    case PHX_PHASE_COMBINE_SEND:
        return PHX_COLUMN_COMBINE_SEND;
    case PHX_PHASE_COMBINE_RECEIVE:
        return PHX_COLUMN_COMBINE_RECEIVE;
    case 0:
        return PHX_COLUMN_OPENING;
    default:
        return PHX_COLUMN_BETWEEN;
    }
}

void phx_coverage_mark(struct phx_coverage_bits *bits, const struct phx_scenario *s,
                       const struct phx_summary *summary)
{
    for (uint32_t i = 0; i < summary->strike_count; i++) {
        const struct phx_strike *strike = &summary->strikes[i];
        uint32_t row = phx_coverage_row_of(&s->faults[strike->fault]);
        if (strike->at_ps == UINT64_MAX || row >= ROW_COUNT)
            continue;
        uint32_t bit = 8 * row + (uint32_t)column_of(strike);
        bits->words[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
}

void phx_coverage_add(struct phx_coverage *sum, const struct phx_coverage_bits *bits)
{
    for (uint32_t row = 0; row < ROW_COUNT; row++)
        for (uint32_t column = 0; column < PHX_COLUMNS; column++) {
            uint32_t bit = 8 * row + column;
            sum->counts[row][column] += bits->words[bit / 64] >> (bit % 64) & 1;
        }
}

uint32_t phx_coverage_contradictions(const struct phx_coverage *coverage)
{
    uint32_t count = 0;
    for (uint32_t row = 0; row < ROW_COUNT; row++)
        for (uint32_t column = 0; column < PHX_COLUMNS; column++)
            count += coverage->counts[row][column] > 0 &&
                     phx_coverage_reason(row, (enum phx_column)column) != NULL;
    return count;
}

static void print_notes(FILE *out, const struct phx_coverage *coverage)
{
    uint32_t empty = 0;
    for (uint32_t row = 0; row < ROW_COUNT; row++) {
        const char *told = NULL;
        for (uint32_t column = 0; column < PHX_COLUMNS; column++) {
            const char *reason = phx_coverage_reason(row, (enum phx_column)column);
            uint64_t count = coverage->counts[row][column];
            empty += count == 0 && reason == NULL;
            if (reason == NULL || told == reason)
                continue;
            (void)fprintf(out, "  %s: %s%s\n", ROWS[row].name, reason,
                          count > 0 ? ", and yet one struck: the reason is wrong" : "");
            told = reason;
        }
    }
    if (empty > 0)
        (void)fprintf(out, "  0: nothing struck there yet (%" PRIu32 " cells); more runs may\n",
                      empty);
}

void phx_coverage_print(FILE *out, const struct phx_coverage *coverage)
{
    (void)fprintf(out, "runs in which a fault struck, by what its rank was doing:\n  %-14s", "");
    for (uint32_t column = 0; column < PHX_COLUMNS; column++)
        (void)fprintf(out, " %10s", COLUMN_NAMES[column]);
    (void)fputc('\n', out);
    for (uint32_t row = 0; row < ROW_COUNT; row++) {
        (void)fprintf(out, "  %-14s", ROWS[row].name);
        for (uint32_t column = 0; column < PHX_COLUMNS; column++) {
            uint64_t count = coverage->counts[row][column];
            if (count == 0 && phx_coverage_reason(row, (enum phx_column)column) != NULL)
                (void)fprintf(out, " %10s", "-");
            else
                (void)fprintf(out, " %10" PRIu64, count);
        }
        (void)fputc('\n', out);
    }
    print_notes(out, coverage);
}
