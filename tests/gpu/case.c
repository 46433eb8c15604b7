// tests/gpu/case.c: random cases, drawn with the simulator's counter-based chance.

#include "tests/gpu/case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/numerics.h"
#include "sim/core.h"

static uint64_t draw(uint64_t number, uint64_t what, uint64_t bound)
{
    return phx_chance_below(bound, number, PHX_CHANCE_FAULT, what, 0);
}

static void draw_shape(struct phx_shape *s, uint64_t number)
{
    static const uint32_t hiddens[] = {128, 256, 384, 512, 640, 1024, 2048, 7168};
    static const uint32_t workers[] = {1, 2, 3, 4, 8, 16}; // 8 ranks of 16 fit one GPU
    s->ranks = draw(number, 1, 4) == 0 ? 2 + (uint32_t)draw(number, 2, 6) : CASE_RANKS_MAX;
    s->experts = 1 + (uint32_t)draw(number, 3, draw(number, 4, 2) ? 64 : 12);
    uint32_t top_k_max = s->experts < 8 ? s->experts : 8;
    s->top_k = 1 + (uint32_t)draw(number, 5, top_k_max);
    s->tokens_max = 1 + (uint32_t)draw(number, 6, draw(number, 7, 4) == 0 ? 128 : 24);
    s->hidden = hiddens[draw(number, 8, sizeof hiddens / sizeof hiddens[0])];
    if (s->hidden > 1024 && s->tokens_max > 32)
        s->tokens_max = 32;          // keeps a case's memory in bounds
    if (draw(number, 17, 16) == 0) { // more tokens than a block has lanes
        s->tokens_max = 600;
        s->hidden = 128;
    }
    s->channels = s->hidden;
    s->in_flight = 1 + (uint32_t)draw(number, 9, 2);
    s->workers = workers[draw(number, 10, sizeof workers / sizeof workers[0])];
    s->dtype = draw(number, 11, 3) == 0 ? PHX_BF16 : PHX_FP8_E4M3;
    s->scale_format = draw(number, 12, 2) ? PHX_SCALE_UE8M0 : PHX_SCALE_F32;
    s->rows = draw(number, 13, 3) == 0 ? PHX_ROWS_PER_EXPERT : PHX_ROWS_ONCE;
    s->layout = draw(number, 14, 3) == 0 ? PHX_LAYOUT_COMPACT : PHX_LAYOUT_SLOTS;
    s->check = draw(number, 15, 2) == 0 ? PHX_CHECK_ROWS : PHX_CHECK_ROUTES;
    s->division = draw(number, 16, 4) == 0 ? PHX_BY_PEER : PHX_BY_TOKEN;
}

static void draw_placement(struct test_case *c)
{
    struct phx_shape *s = &c->shape;
    int is_random = draw(c->number, 20, 2) == 0;
    uint32_t each = s->experts / s->ranks;
    uint32_t more = s->experts % s->ranks;
    for (uint32_t e = 0; e < s->experts; e++) {
        uint32_t rank = e < more * (each + 1) ? e / (each + 1)
                                              : more + (e - more * (each + 1)) / (each ? each : 1);
        if (is_random)
            rank = (uint32_t)phx_chance_below(s->ranks, c->number, PHX_CHANCE_ROUTING, 21, e);
        c->expert_map[e] = (int32_t)rank;
        c->expert_rank[e] = (uint16_t)rank;
        c->expert_local[e] = (uint16_t)c->experts_of[rank]++;
    }
    for (uint32_t r = 0; r < s->ranks; r++)
        if (c->experts_of[r] > s->experts_local_max)
            s->experts_local_max = c->experts_of[r];
}

struct test_case *case_make(uint64_t number, int death)
{
    struct test_case *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->number = number;
    draw_shape(&c->shape, number);
    c->expert_map = calloc(c->shape.experts, sizeof *c->expert_map);
    c->expert_rank = calloc(c->shape.experts, sizeof *c->expert_rank);
    c->expert_local = calloc(c->shape.experts, sizeof *c->expert_local);
    if (c->expert_map == NULL || c->expert_rank == NULL || c->expert_local == NULL) {
        case_free(c);
        return NULL;
    }
    draw_placement(c);
    c->pairs = 3;
    c->split = draw(number, 30, 3) == 0;
    c->renormalise = draw(number, 31, 3) == 0;
    // So long that a death alone is given up: a worker that has all rows of a rank to itself takes
    // 10 ms and more for some of these operations.
    uint64_t rows = (uint64_t)c->shape.ranks * c->shape.tokens_max * c->shape.top_k;
    c->timeout_us = death ? 10000 + 4 * rows / c->shape.workers : 2000000;
    c->victim = death ? (uint32_t)draw(number, 32, c->shape.ranks) : CASE_NOBODY;
    c->death_pair = (uint32_t)draw(number, 33, c->pairs);
    // A rank puts one route and some rows to each peer, then combine rows: any of them may be the
    // last.
    c->death_puts = draw(number, 34, 2 * c->shape.ranks + 4 * c->shape.tokens_max);
    return c;
}

void case_free(struct test_case *c)
{
    if (c == NULL)
        return;
    free(c->expert_map);
    free(c->expert_rank);
    free(c->expert_local);
    free(c);
}

void case_print(const struct test_case *c)
{
    const struct phx_shape *s = &c->shape;
    printf(
        "case %llu: ranks %u experts %u top_k %u tokens %u hidden %u workers %u%s %s%s %s %s%s%s%s",
        (unsigned long long)c->number, s->ranks, s->experts, s->top_k, s->tokens_max, s->hidden,
        s->workers, s->division == PHX_BY_TOKEN ? " by token" : "",
        s->dtype == PHX_BF16 ? "bf16" : "fp8",
        s->dtype == PHX_BF16 ? "" : (s->scale_format == PHX_SCALE_F32 ? "/f32" : "/ue8m0"),
        s->rows == PHX_ROWS_ONCE ? "once" : "per-expert",
        s->layout == PHX_LAYOUT_SLOTS ? "slots" : "compact",
        s->check == PHX_CHECK_ROWS ? " check=rows" : "", c->split ? " halves" : "",
        c->renormalise ? " renormalise" : "");
    if (c->victim != CASE_NOBODY)
        printf(" | rank %u dies in pair %u after %llu puts", c->victim, c->death_pair,
               (unsigned long long)c->death_puts);
}

// --- inputs and outputs -------------------------------------------------------------------------

static void *zeroed(uint64_t count, uint64_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) {
        fprintf(stderr, "no memory for a case\n");
        exit(3);
    }
    return memory;
}

struct rank_io *case_io_at(const struct test_case *c, struct rank_io *io, uint32_t pair,
                           uint32_t rank)
{
    return &io[pair * c->shape.ranks + rank];
}

static void *poisoned(uint64_t count, uint64_t size)
{
    return memset(zeroed(count, size), 0xA5, count * size);
}

struct rank_io *case_io_make(const struct test_case *c)
{
    const struct phx_shape *s = &c->shape;
    uint64_t rows = io_rows_max(s);
    uint32_t total = c->pairs * s->ranks;
    struct rank_io *all = zeroed(total, sizeof *all);
    for (uint32_t i = 0; i < total; i++) {
        struct rank_io *io = &all[i];
        io->x = zeroed((uint64_t)s->tokens_max * s->channels, 2);
        io->topk_idx = zeroed((uint64_t)s->tokens_max * s->top_k, 8);
        io->weights = zeroed((uint64_t)s->tokens_max * s->top_k, 4);
        io->y = zeroed(rows * s->channels, 2);
        io->recv_x = poisoned(rows * phx_payload_bytes(s, s->channels), 1);
        io->recv_scales = poisoned(rows * phx_scale_words(s, s->channels), 4);
        io->recv_src_info = poisoned(rows, 4);
        io->recv_count = poisoned(s->experts_local_max, 4);
        io->recv_layout_range = poisoned((uint64_t)s->experts_local_max * s->ranks, 8);
        io->out = poisoned((uint64_t)s->tokens_max * s->channels, 2);
        io->token_loss = poisoned(s->tokens_max, 4);
        io->fates = zeroed((uint64_t)PHX_WAIT_PHASES * s->ranks, 1);
        io->active = zeroed(s->ranks, 4);
        for (uint32_t r = 0; r < s->ranks; r++)
            io->active[r] = 1;
    }
    return all;
}

void case_io_free(const struct test_case *c, struct rank_io *io)
{
    for (uint32_t i = 0; i < c->pairs * c->shape.ranks; i++) {
        free(io[i].x);
        free(io[i].topk_idx);
        free(io[i].weights);
        free(io[i].y);
        free(io[i].recv_x);
        free(io[i].recv_scales);
        free(io[i].recv_src_info);
        free(io[i].recv_count);
        free(io[i].recv_layout_range);
        free(io[i].out);
        free(io[i].token_loss);
        free(io[i].fates);
        free(io[i].active);
    }
    free(io);
}

// A finite bf16 of moderate size: sign, exponent 2^-9 to 2^6, mantissa. One in 64 is special.
static uint16_t draw_bf16(uint64_t bits, int specials)
{
    static const uint16_t special[] = {0x0000, 0x8000, 0x0001, 0x7F80,
                                       0xFF80, 0x7FC0, 0x7F7F, 0x0080};
    if (specials && bits >> 58 == 0)
        return special[bits >> 40 & 7];
    return (uint16_t)((bits & 0x8000u) | ((118 + (bits >> 16 & 15)) << 7) | (bits & 0x7Fu));
}

static void fill_bf16(uint16_t *x, uint64_t count, uint64_t seed, uint64_t who, int specials)
{
    for (uint64_t i = 0; i < count; i++)
        x[i] = draw_bf16(phx_chance(seed, PHX_CHANCE_PAYLOAD, who, i), specials);
}

// Distinct experts for one token, with -1 entries now and then.
static void fill_routing(const struct test_case *c, uint64_t who, uint32_t token, int64_t *list,
                         float *weights)
{
    const struct phx_shape *s = &c->shape;
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint64_t at = (uint64_t)token * s->top_k + k;
        uint64_t bits = phx_chance(c->number, PHX_CHANCE_ROUTING, who, at);
        int64_t expert = (int64_t)(bits % s->experts);
        for (uint32_t i = 0; i < k; i++) {
            if (list[i] == expert) { // the next one that is free
                expert = (expert + 1) % s->experts;
                i = UINT32_MAX;
            }
        }
        list[k] = expert;
        weights[k] = (float)(1 + (bits >> 40 & 0xFFF)) / 4096.0f;
    }
    for (uint32_t k = 0; k < s->top_k; k++)
        if (phx_chance(c->number, PHX_CHANCE_ROUTING, who + 1000000, (uint64_t)token * 32 + k) %
                16 ==
            0)
            list[k] = -1;
}

void case_fill_inputs(const struct test_case *c, uint32_t pair, uint32_t rank, struct rank_io *io)
{
    const struct phx_shape *s = &c->shape;
    uint64_t who = (uint64_t)pair * 100 + rank;
    int specials = draw(c->number, 40, 3) == 0;
    io->token_count = (uint32_t)phx_chance_below(s->tokens_max + 1, c->number, PHX_CHANCE_ROUTING,
                                                 who + 50000, 0);
    fill_bf16(io->x, (uint64_t)s->tokens_max * s->channels, c->number, who, specials);
    fill_bf16(io->y, io_rows_max(s) * s->channels, c->number, who + 5000, 0);
    for (uint32_t t = 0; t < io->token_count; t++)
        fill_routing(c, who, t, io->topk_idx + (uint64_t)t * s->top_k,
                     io->weights + (uint64_t)t * s->top_k);
}
