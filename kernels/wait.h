// kernels/wait.h: waiting for peers, and deciding once what became of each of them.
//
// All waits of an operation share one deadline D. A wait on a source ends
//   - when every word it waits for carries this operation's (epoch, sequence): PRESENT;
//   - when a word shows a newer sequence, or the value MASKED: the source gave up on us; ABSENT;
//   - when the source is suspected (transport evidence, an earlier timeout, the user's mask):
//   ABSENT;
//   - at the deadline: ABSENT.
// The first worker to know decides, by compare-and-swap on the source's fate word; the rest follow,
// PRESENT once they have seen the words themselves: deciding orders nothing. (Of what one worker
// alone waits for, GPU targets store the fate.) ABSENT makes the source suspected and clears the
// user's active_ranks entry. An older word, or one of a newer epoch, is not there yet.
//
// A late rank is not a dead rank: a worker blocked for D/4 has worker 0 store WAITING + the rank it
// is blocked on into this rank's status word at every peer, with the number of the newest operation
// that it has sent (or HELD, with that which it is sending). A reader whose deadline passes, and
// who waits for what is not sent yet, waits to 2D in all and charges the rank named. What was sent
// already is late for a reason of its own: that wait ends at D, or a rank that is cut off would
// hold up others for so long that their own peers give up on them. A worker whose own polls were
// more than D/4 apart was paused: it looks again first (the words may show that it was given up),
// and restarts its deadline once.

#ifndef PHX_KERNELS_WAIT_H
#define PHX_KERNELS_WAIT_H

#include "kernels/device.h"
#include "kernels/route.h"

// Before the first half that a launch runs; a fused launch keeps counting barriers.
PHX_FN void phx_worker_begin(struct phx_worker *w, const struct phx_rank *rank, uint32_t index,
                             uint64_t barriers_before)
{
    w->rank = rank;
    w->index = index;
    w->count = rank->shape.workers;
    w->op = NULL;
    w->barriers = barriers_before;
    w->has_ended = 0;
    phx_worker_init(w);
}

// Once per operation: a fused launch's receive half goes on with the deadline of its send half.
PHX_FN void phx_operation_begin(struct phx_worker *w, const struct phx_op_common *op)
{
    if (w->op == op)
        return;
    w->op = op;
    w->start_ns = phx_now_begun(w);
    w->last_poll_ns = w->start_ns;
    w->restarted = 0;
    w->announced = 0;
    w->blocked = 0;
    w->fate_at = NULL;
}

PHX_FN uint32_t phx_token_tag(uint32_t kind, uint64_t sequence)
{
    return kind << 28 | ((uint32_t)sequence & 0xFFFFFFu);
}

// --- suspicion ----------------------------------------------------------------------------------

PHX_FN int phx_suspects(const struct phx_worker *w, uint32_t rank)
{
    return phx_local_load(w, &w->rank->suspected[rank]) != PHX_CAUSE_NONE;
}

// A rank never suspects itself: a message to itself that fails its check costs this operation
// alone.
PHX_COLD void phx_suspect(struct phx_worker *w, uint32_t rank, uint32_t cause)
{
    if (rank == w->rank->rank)
        return;
    if (phx_local_cas(w, &w->rank->suspected[rank], PHX_CAUSE_NONE, cause) != PHX_CAUSE_NONE)
        return;
    if (w->op->active_ranks != NULL)
        phx_mask_clear(w, &w->op->active_ranks[rank]);
    phx_wake(w, NULL);
}

// The group was aborted, or (GPU test launches) this rank died: every wait ends.
PHX_FN int phx_ended(const struct phx_worker *w)
{
    const uint64_t *const words[2] = {&w->rank->state->abort, &w->rank->state->dead};
    uint64_t seen[2];
    phx_gather(w, words, seen, 2);
    return seen[0] != 0 || seen[1] != 0;
}

// The user's mask, taken over at the start of each operation, by every worker before it sends: once
// masked here, a rank stays masked until a view readmits it, because slots at it may only be
// written with evidence.
PHX_FN void phx_take_masks(struct phx_worker *w)
{
    int32_t *active = w->op->active_ranks;
    PHX_EACH(w, r, w->rank->shape.ranks)
    {
        int32_t wanted = active != NULL ? phx_own_mask_load(&active[r]) : 1;
        uint64_t cause = phx_own_load(&w->rank->suspected[r]);
        if (cause == PHX_CAUSE_NONE && wanted == 0 && r != w->rank->rank) {
            cause = phx_own_cas(&w->rank->suspected[r], PHX_CAUSE_NONE, PHX_CAUSE_USER);
            if (cause == PHX_CAUSE_NONE)
                phx_own_wake(w);
            cause = PHX_CAUSE_USER;
        }
        if (active != NULL && cause != PHX_CAUSE_NONE)
            phx_own_mask_clear(&active[r]);
        phx_own_mask_note(w, r, cause != PHX_CAUSE_NONE);
    }
    phx_each_end(w);
}

// --- fates --------------------------------------------------------------------------------------

PHX_FN uint64_t *phx_fate_word(const struct phx_worker *w, uint32_t phase, uint32_t source)
{
    return &w->rank->fates[(uint64_t)phase * w->rank->shape.ranks + source];
}

PHX_FN uint32_t phx_fate_in(const struct phx_worker *w, uint64_t word)
{
    if (PHX_BUG(TWO_DECISIONS)) // planted: each worker decides for itself
        return PHX_FATE_OPEN;
    return word >> 8 == w->op->operation ? (uint32_t)(word & 0xFF) : (uint32_t)PHX_FATE_OPEN;
}
PHX_FN uint32_t phx_fate_of(const struct phx_worker *w, uint32_t phase, uint32_t source)
{
    return phx_fate_in(w, phx_local_load(w, phx_fate_word(w, phase, source)));
}

// Returns the fate that holds: ours, or the one that another worker decided before.
PHX_FN uint32_t phx_fate_decide(const struct phx_worker *w, uint32_t phase, uint32_t source,
                                uint32_t fate)
{
    uint64_t *word = phx_fate_word(w, phase, source);
    // What phx_wait() saw there last, if it was about this one, saves a look.
    uint64_t seen = w->fate_at == word ? w->fate_seen : phx_local_load(w, word);
    if (PHX_BUG(TWO_DECISIONS))
        return fate;
    while (seen >> 8 != w->op->operation) {
        // Of rows, others who wait for them follow at once; the rest is read after a barrier.
        uint64_t mine = w->op->operation << 8 | fate;
        uint64_t before = phase == PHX_WAIT_ROWS ? phx_local_cas(w, word, seen, mine)
                                                 : phx_local_claim(w, word, seen, mine);
        if (before == seen)
            return fate;
        seen = before;
    }
    return (uint32_t)(seen & 0xFF);
}

// The same for rows whose words this worker has seen, in two steps, between which it may do
// something else. Nothing is ordered by it: who follows has seen the words itself (phx_wait()).
struct phx_proposal {
    uint64_t seen;
    uint64_t mine;
    uint64_t before; // what phx_fate_agreed() hands to phx_local_cas_end()
};
PHX_FN void phx_fate_propose(const struct phx_worker *w, uint32_t source, struct phx_proposal *p)
{
    uint64_t *word = phx_fate_word(w, PHX_WAIT_ROWS, source);
    p->seen = w->fate_at == word ? w->fate_seen : phx_local_load(w, word);
    p->mine = w->op->operation << 8 | PHX_FATE_PRESENT;
    p->before = p->seen;
    if (p->seen >> 8 != w->op->operation && !PHX_BUG(TWO_DECISIONS))
        p->before = phx_local_cas_begin(w, word, p->seen, p->mine);
}
PHX_FN uint32_t phx_fate_agreed(struct phx_worker *w, uint32_t source, const struct phx_proposal *p)
{
    if (PHX_BUG(TWO_DECISIONS))
        return PHX_FATE_PRESENT;
    if (p->seen >> 8 == w->op->operation)
        return (uint32_t)(p->seen & 0xFF);
    uint64_t before = phx_local_cas_end(w, p->before);
    if (before == p->seen)
        return PHX_FATE_PRESENT;
    if (before >> 8 == w->op->operation) // another was first
        return (uint32_t)(before & 0xFF);
    w->fate_at = NULL;
    return phx_fate_decide(w, PHX_WAIT_ROWS, source, PHX_FATE_PRESENT);
}

PHX_COLD uint32_t phx_fate_absent_apart(struct phx_worker *w, uint32_t phase, uint32_t source,
                                        uint32_t cause)
{
    uint32_t fate = phx_fate_decide(w, phase, source, PHX_FATE_ABSENT);
    if (fate == PHX_FATE_ABSENT && cause != PHX_CAUSE_NONE)
        phx_suspect(w, source, cause);
    return fate;
}
// cause: PHX_CAUSE_NONE if it is suspected already, or nobody's fault.
PHX_FN uint32_t phx_fate_absent(struct phx_worker *w, uint32_t phase, uint32_t source,
                                uint32_t cause)
{
    PHX_ASIDE_BEGIN(w);
    uint32_t fate = phx_fate_absent_apart(aside, phase, source, cause);
    PHX_ASIDE_END(w);
    return fate;
}

// --- being late, and saying so ------------------------------------------------------------------

// The rank that `source` says it is blocked on, or -1.
PHX_FN int64_t phx_waiting_on(const struct phx_worker *w, uint32_t source)
{
    const struct phx_rank *rank = w->rank;
    const uint8_t *at = phx_region_of(w, source) + phx_status_word_offset(&rank->shape);
    uint64_t word = phx_load(w, (const uint64_t *)(const void *)at);
    uint32_t age = ((uint32_t)w->op->operation - phx_word_sequence(word)) & 0xFFFFFFu;
    uint32_t value = phx_word_value(word);
    uint32_t base = value < PHX_WORD_VALUE_HELD ? PHX_WORD_VALUE_WAITING : PHX_WORD_VALUE_HELD;
    // So far apart can two ranks be whose operations wait for each other. What it says that it has
    // sent is not late because it waits.
    uint32_t age_max = 2 * rank->shape.in_flight - 1;
    if (phx_word_epoch(word) != (rank->epoch & 0xFFFFu) || age > age_max ||
        (age == 0 && base == PHX_WORD_VALUE_WAITING))
        return -1;
    if (value < base || value >= base + rank->shape.ranks)
        return -1;
    return value - base;
}

// Worker 0 alone writes status words: a word has one ordered path. blocked: state->blocked_on.
PHX_COLD void phx_announce_apart(struct phx_worker *w, uint32_t named)
{
    const struct phx_rank *rank = w->rank;
    w->announced = named;
    uint32_t whom = (named & ~PHX_BLOCKED_SENDING) - 1;
    uint64_t word = named & PHX_BLOCKED_SENDING
                        ? phx_word_make(rank->epoch, w->op->operation, PHX_WORD_VALUE_HELD + whom)
                        : phx_word_make(rank->epoch, w->op->sent, PHX_WORD_VALUE_WAITING + whom);
    for (uint32_t i = 1; i < rank->shape.ranks; i++) {
        uint32_t peer = (rank->rank + i) % rank->shape.ranks;
        // The one named too: it may hold an older word, that tells another reason. But not one
        // whose lane is full.
        if ((peer != whom || !(named & PHX_BLOCKED_SENDING)) && !phx_suspects(w, peer))
            phx_signal(w, peer, phx_status_word_offset(&rank->shape), word, 0); // or not at all
    }
    phx_told(w);
}
PHX_FN void phx_announce(struct phx_worker *w, uint64_t blocked)
{
    if ((w->index != 0 && !PHX_BUG(STATUS_BY_ANY_WORKER)) || w->op->timeout_ns == UINT64_MAX)
        return; // planted: whoever is blocked says so, each on its own lane
    uint32_t named = (uint32_t)(blocked & 0xFFFFu);
    if (blocked >> 16 != w->op->operation || named == 0 || named == w->announced)
        return;
    PHX_ASIDE_BEGIN(w);
    phx_announce_apart(aside, named);
    PHX_ASIDE_END(w);
}

// One that is blocked while it sends goes before one that waits for others: it keeps what they wait
// for.
PHX_FN void phx_note_blocked(struct phx_worker *w, uint32_t source, uint32_t sending)
{
    uint64_t *word = &w->rank->state->blocked_on;
    uint64_t seen = phx_local_load(w, word);
    w->blocked = 1;
    if (seen >> 16 != w->op->operation || (seen & 0xFFFFu) == 0 ||
        (sending & ~(uint32_t)seen) != 0) {
        phx_local_cas(w, word, seen, w->op->operation << 16 | sending | (source + 1));
        phx_wake(w, NULL); // worker 0 may be parked, and is the one who announces
    }
    phx_announce(w, phx_local_load(w, word));
}

// What was waited for of `source` came, or will not. If it was the one that the peers were told of,
// they are to hear of another: what they know of why we are late is true no more.
PHX_COLD void phx_note_unblocked_apart(struct phx_worker *w, uint32_t source, uint32_t sending)
{
    uint64_t blocked = w->op->operation << 16 | sending | (source + 1);
    uint64_t *word = &w->rank->state->blocked_on;
    if (phx_local_load(w, word) == blocked)
        phx_local_cas(w, word, blocked, w->op->operation << 16);
}
PHX_FN void phx_note_unblocked(struct phx_worker *w, uint32_t source, uint32_t sending)
{
    if (!w->blocked)
        return;
    PHX_ASIDE_BEGIN(w);
    phx_note_unblocked_apart(aside, source, sending);
    PHX_ASIDE_END(w);
}

// Polls further apart than D/4: this rank was paused (or busy), and restarts its deadline, once.
PHX_FN void phx_notice_pause(struct phx_worker *w, uint64_t now)
{
    // Clocks of workers should not step back; one that does takes the deadline along.
    if (now < w->last_poll_ns) {
        uint64_t elapsed = w->last_poll_ns - w->start_ns;
        w->start_ns = now > elapsed ? now - elapsed : 0;
        w->last_poll_ns = now;
        return;
    }
    uint64_t gap = now - w->last_poll_ns;
    w->last_poll_ns = now;
    if (w->op->timeout_ns == UINT64_MAX || gap <= w->op->timeout_ns / 4 || w->restarted)
        return;
    w->restarted = 1;
    w->start_ns = now;
}

// True when the wait for `source` must end. sending: PHX_BLOCKED_SENDING, or 0.
PHX_COLD int phx_overdue_apart(struct phx_worker *w, uint32_t source, uint32_t sending,
                               uint64_t now, int64_t *charged)
{
    uint64_t timeout = w->op->timeout_ns;
    phx_notice_pause(w, now);
    if (timeout == UINT64_MAX)
        return 0;
    uint64_t elapsed = now - w->start_ns;
    if (elapsed >= timeout / 4)
        phx_note_blocked(w, source, sending);
    // What a rank sends itself comes as fast as it is itself: no deadline would tell it anything.
    if (elapsed < timeout || source == w->rank->rank)
        return 0;
    // Planted: nobody listens to WAITING; or its bound is compared in us with elapsed ns.
    if (PHX_BUG(DEADLINE_CASCADE))
        return 1;
    if (PHX_BUG(TIMEOUT_UNITS))
        elapsed /= 1000;
    if (elapsed < 2 * timeout) {
        int64_t whom = phx_waiting_on(w, source);
        if (whom >= 0 && (uint32_t)whom != w->rank->rank) {
            *charged = whom;
            return 0;
        }
    }
    return 1;
}

PHX_FN int phx_overdue(struct phx_worker *w, uint32_t source, uint32_t sending, uint64_t now,
                       int64_t *charged)
{
    uint64_t early = w->op->timeout_ns / 4;
    if (now >= w->last_poll_ns && now - w->last_poll_ns <= early && now - w->start_ns < early) {
        w->last_poll_ns = now; // nothing to say or to decide yet
        return 0;
    }
    int64_t whom = *charged;
    PHX_ASIDE_BEGIN(w);
    int overdue = phx_overdue_apart(aside, source, sending, now, &whom);
    PHX_ASIDE_END(w);
    *charged = whom;
    return overdue;
}

// Polls stay at most D/8 apart, so that a gap of D/4 means a pause.
PHX_FN uint64_t phx_poll_until(const struct phx_worker *w, uint64_t now)
{
    uint64_t timeout = w->op->timeout_ns;
    if (timeout == UINT64_MAX)
        return UINT64_MAX;
    uint64_t until = now + (timeout / 8 > 0 ? timeout / 8 : 1);
    uint64_t quarter = w->start_ns + timeout / 4;
    uint64_t end = w->start_ns + timeout;
    if (now < quarter && quarter < until)
        return quarter;
    return now < end && end < until ? end : until;
}

PHX_FN void phx_wait_charge(const struct phx_worker *w, uint32_t source, uint64_t since_ns,
                            int64_t charged)
{
    if (w->op->wait_ns == NULL)
        return;
    uint32_t rank = charged >= 0 ? (uint32_t)charged : source;
    uint64_t waited = phx_now(w) - since_ns;
    phx_local_count(w, (uint64_t *)(void *)&w->op->wait_ns[rank], waited);
}

// --- the places where a worker waits ------------------------------------------------------------

PHX_FN uint32_t phx_wait_end(uint32_t fate)
{
    return fate == PHX_FATE_PRESENT ? PHX_SEEN_DECIDED : PHX_SEEN_GONE;
}

// Gives a source up. If another worker has decided PRESENT first, the next look finds that, and
// what was seen; an operation that was ended looks no more.
PHX_FN uint32_t phx_wait_absent(struct phx_worker *w, uint32_t phase, uint32_t source,
                                uint32_t cause, int has_ended)
{
    uint32_t fate = phx_fate_absent(w, phase, source, cause);
    if (fate == PHX_FATE_PRESENT && !has_ended)
        return PHX_SEEN_NOTHING;
    return phx_wait_end(fate);
}

// What phx_expect() was told of, seen meanwhile: no wait is needed.
PHX_FN int phx_wait_is_over(struct phx_worker *w, uint32_t phase, uint32_t source,
                            const uint64_t *words, uint64_t *sum)
{
    w->fate_at = phx_fate_word(w, phase, source);
    return phx_expected(w, words, sum); // the fate was not decided then, and may be by now
}

// Waits for `count` words of `source`. PHX_SEEN_ALL: they are there, *sum is the sum of their
// values, and nothing is decided (the caller checks what came with them and decides).
// PHX_SEEN_GONE: the fate is ABSENT. PHX_SEEN_DECIDED: another worker decided PRESENT; that is
// followed, whatever this one saw.
PHX_FN uint32_t phx_wait(struct phx_worker *w, uint32_t phase, uint32_t source,
                         const uint64_t *words, uint32_t count, uint64_t *sum)
{
    const struct phx_rank *rank = w->rank;
    const uint64_t *const local[4] = {phx_fate_word(w, phase, source), &rank->suspected[source],
                                      &rank->state->abort, &rank->state->dead};
    uint64_t state[4];
    int64_t charged = -1;
    uint32_t result = PHX_SEEN_NOTHING;
    w->fate_at = local[0];
    uint64_t since = phx_now(w);
    if (PHX_BUG(DEADLINE_PER_RANK)) // planted: D for each source, one after the other
        w->start_ns = since;
    while (result == PHX_SEEN_NOTHING) {
        uint32_t seen = phx_look(w, local, state, 4, words, count, sum);
        uint32_t fate = phx_fate_in(w, state[0]);
        w->fate_seen = state[0];
        int has_ended = state[2] != 0 || state[3] != 0;
        // What another worker has seen this one sees, too, or what came behind it: it looks on.
        int follows = fate == PHX_FATE_PRESENT && !has_ended &&
                      (seen == PHX_SEEN_NOTHING || (seen == PHX_SEEN_GONE && *sum != 0));
        if (fate != PHX_FATE_OPEN && !follows) {
            result = phx_wait_end(fate);
        } else if (!follows && (state[1] != PHX_CAUSE_NONE || has_ended)) {
            result = phx_wait_absent(w, phase, source, PHX_CAUSE_NONE, has_ended);
        } else if (seen == PHX_SEEN_ALL) {
            result = PHX_SEEN_ALL;
        } else if (seen == PHX_SEEN_GONE && !follows) {
            result = phx_wait_absent(w, phase, source, PHX_CAUSE_GAVE_UP, 0);
        } else {
            uint64_t now = phx_now_looked(w);
            if (!phx_overdue(w, source, 0, now, &charged))
                phx_park(w, words, count, phx_poll_until(w, now));
            else // a peer that took back what it said is followed as it was decided
                result = follows ? (uint32_t)PHX_SEEN_DECIDED
                                 : phx_wait_absent(w, phase, source, PHX_CAUSE_TIMEOUT, 0);
        }
    }
    phx_note_unblocked(w, source, 0);
    // Of the workers that wait for one source, the one of part 0 keeps the account; for a source's
    // answers one alone waits.
    if (w->index < rank->shape.ranks || phase == PHX_WAIT_COMBINE)
        phx_wait_charge(w, source, since, charged);
    return result;
}

// A recorded fate instead of a wait: PRESENT still waits, without a deadline, for the words.
PHX_COLD uint32_t phx_replay_apart(struct phx_worker *w, uint32_t phase, uint32_t row,
                                   uint32_t source, const uint64_t *words, uint32_t count,
                                   uint64_t *sum)
{
    if (w->op->replay[row * w->rank->shape.ranks + source] == PHX_FATE_ABSENT) {
        phx_fate_decide(w, phase, source, PHX_FATE_ABSENT);
        return PHX_SEEN_GONE;
    }
    for (;;) {
        uint32_t seen = phx_look(w, NULL, NULL, 0, words, count, sum);
        if (seen == PHX_SEEN_ALL)
            return PHX_SEEN_ALL;
        if (seen == PHX_SEEN_GONE || phx_ended(w)) // not what was recorded: the outcome shows it
            return phx_wait_end(phx_fate_decide(w, phase, source, PHX_FATE_ABSENT));
        phx_park(w, words, count, UINT64_MAX);
    }
}
PHX_FN uint32_t phx_wait_or_replay(struct phx_worker *w, uint32_t phase, uint32_t row,
                                   uint32_t source, const uint64_t *words, uint32_t count,
                                   uint64_t *sum)
{
    if (!phx_replays(w->op))
        return phx_wait(w, phase, source, words, count, sum);
    uint64_t values = 0;
    PHX_ASIDE_BEGIN(w);
    uint32_t seen = phx_replay_apart(aside, phase, row, source, words, count, &values);
    PHX_ASIDE_END(w);
    *sum = values;
    return seen;
}

// A message is not there as a whole when its word is (one whose parts say so themselves). Its
// sender stored it first, so that it takes no longer than a link does: where no deadline ends a
// wait, what has not come in this time has been damaged.
#define PHX_REST_NS_MAX 1000000000ull
struct phx_rest { // begins as {0, -1}
    uint64_t since_ns;
    int64_t charged;
};
// True: look again. False: it is waited for no longer, and its source's fate is ABSENT.
PHX_FN int phx_wait_rest(struct phx_worker *w, uint32_t phase, uint32_t source,
                         struct phx_rest *rest)
{
    uint32_t cause = PHX_CAUSE_NONE;
    if (!phx_suspects(w, source) && !phx_ended(w)) {
        uint64_t now = phx_now(w);
        int endless =
            phx_replays(w->op) || w->op->timeout_ns == UINT64_MAX || source == w->rank->rank;
        rest->since_ns = rest->since_ns != 0 ? rest->since_ns : now;
        if (endless ? now - rest->since_ns < PHX_REST_NS_MAX
                    : !phx_overdue(w, source, 0, now, &rest->charged))
            return 1;
        cause = endless ? PHX_CAUSE_CORRUPT : PHX_CAUSE_TIMEOUT;
    }
    phx_fate_absent(w, phase, source, cause);
    return 0;
}
PHX_FN void phx_wait_rest_end(struct phx_worker *w, uint32_t source, const struct phx_rest *rest)
{
    if (rest->since_ns == 0)
        return;
    phx_note_unblocked(w, source, 0);
    phx_wait_charge(w, source, rest->since_ns, rest->charged);
}

// --- sending: a lane may be full ----------------------------------------------------------------
// A full lane is a wait for the peer that does not take what is under way to it: under the same
// deadline, told to the others and charged in the same way.

struct phx_room { // begins as {0, 0, -1}
    uint64_t since_ns;
    uint32_t waited; // not 0: since then
    int64_t charged;
};

// Waits a little for room on this worker's lane to a peer. False: no longer.
PHX_FN int phx_room_wait(struct phx_worker *w, uint32_t peer, struct phx_room *room)
{
    if (phx_suspects(w, peer) || phx_ended(w))
        return 0;
    uint64_t now = phx_now(w);
    if (!room->waited) {
        room->waited = 1;
        room->since_ns = now;
    }
    // Past the deadline a lane that still moves is not given up: what was lost to the wait for one
    // peer is no fault of the next. To 2D in all, as with waits that are extended.
    if (phx_overdue(w, peer, PHX_BLOCKED_SENDING, now, &room->charged) &&
        (now - room->since_ns >= w->op->timeout_ns / 8 ||
         now - w->start_ns >= 2 * w->op->timeout_ns))
        return 0;
    uint64_t until = phx_poll_until(w, now);
    phx_park(w, NULL, 0, until < now + 1000 ? until : now + 1000);
    return 1;
}
PHX_FN void phx_room_end(struct phx_worker *w, uint32_t peer, const struct phx_room *room)
{
    if (!room->waited)
        return;
    phx_note_unblocked(w, peer, PHX_BLOCKED_SENDING);
    if (w->index < w->rank->shape.ranks)
        phx_wait_charge(w, peer, room->since_ns, room->charged);
}

// The ways to put, with a wait for room. 0: the op was not posted.
PHX_FN int phx_send_put(struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                        const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes,
                        uint32_t token)
{
    struct phx_room room = {0, 0, -1};
    int posted;
    do
        posted = phx_put(w, peer, target_offset, source, size_bytes, wire_bytes, token);
    while (!posted && phx_room_wait(w, peer, &room));
    phx_room_end(w, peer, &room);
    return posted;
}
PHX_FN int phx_send_put_signal(struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                               const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes,
                               uint64_t signal_offset, uint64_t signal_value, uint32_t token)
{
    struct phx_room room = {0, 0, -1};
    int posted;
    do
        posted = phx_put_signal(w, peer, target_offset, source, size_bytes, wire_bytes,
                                signal_offset, signal_value, token);
    while (!posted && phx_room_wait(w, peer, &room));
    phx_room_end(w, peer, &room);
    return posted;
}
PHX_FN int phx_send_message(struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                            const uint8_t *message, uint64_t size_bytes, uint64_t signal_offset,
                            uint64_t signal_value, uint32_t token)
{
    struct phx_room room = {0, 0, -1};
    int posted;
    do
        posted = phx_put_message(w, peer, target_offset, message, size_bytes, signal_offset,
                                 signal_value, token);
    while (!posted && phx_room_wait(w, peer, &room));
    phx_room_end(w, peer, &room);
    return posted;
}
PHX_FN int phx_send_signal(struct phx_worker *w, uint32_t peer, uint64_t signal_offset,
                           uint64_t signal_value, uint32_t token)
{
    struct phx_room room = {0, 0, -1};
    int posted;
    do
        posted = phx_signal(w, peer, signal_offset, signal_value, token);
    while (!posted && phx_room_wait(w, peer, &room));
    phx_room_end(w, peer, &room);
    return posted;
}

// A word that a peer given up may wait for, and that never got there: the lane was full, or what
// was under way was flushed. It is owed, one for each phase of waiting, to be stored as MASKED by
// its own worker with the next operation, before which the lanes to such a peer are emptied
// (flush_suspects() in engine/operation.c). Of several the first is kept.
PHX_FN void phx_owe(const struct phx_worker *w, uint32_t phase, uint32_t peer)
{
    if (peer != w->rank->rank)
        phx_local_cas(w, &w->rank->owed[(uint64_t)phase * w->rank->shape.ranks + peer], 0,
                      phx_owed_make(w->op->sequence, w->index));
}

// The lane to a peer did not make room for what goes with the word of this phase, and will not.
PHX_FN void phx_send_failed(struct phx_worker *w, uint32_t phase, uint32_t peer)
{
    phx_owe(w, phase, peer);
    phx_suspect(w, peer, PHX_CAUSE_TIMEOUT);
}

// All that a peer gets which was given up: MASKED in the words that it may be waiting for. In a
// replay nothing: what such a peer waits for there was sent, and it may look at it later than it
// did in the recorded run, when MASKED would stand in its place.
PHX_COLD void phx_send_masked_apart(struct phx_worker *w, uint32_t phase, uint32_t peer,
                                    uint64_t word_at, uint32_t token)
{
    const struct phx_rank *rank = w->rank;
    if (phx_replays(w->op))
        return;
    for (uint32_t p = PHX_WAIT_PHASES; p-- > 0;) { // the latest first: there may be room for one
        uint64_t *entry = &rank->owed[(uint64_t)p * rank->shape.ranks + peer];
        uint64_t owed = phx_local_load(w, entry);
        if ((owed & 0xFFFFu) != w->index + 1)
            continue;
        uint64_t at = phx_owed_word_offset(
            &rank->shape, p, owed, (peer + rank->shape.ranks - rank->rank) % rank->shape.ranks);
        uint64_t masked = phx_word_make(rank->epoch, owed >> 16, PHX_WORD_VALUE_MASKED);
        // The word of this operation takes the place of an older one.
        if (at == word_at || phx_signal(w, peer, at, masked, token))
            phx_local_store(w, entry, 0);
    }
    if (!phx_signal(w, peer, word_at,
                    phx_word_make(rank->epoch, w->op->sequence, PHX_WORD_VALUE_MASKED), token))
        phx_owe(w, phase, peer);
}
PHX_FN void phx_send_masked(struct phx_worker *w, uint32_t phase, uint32_t peer, uint64_t word_at,
                            uint32_t token)
{
    PHX_ASIDE_BEGIN(w);
    phx_send_masked_apart(aside, phase, peer, word_at, token);
    PHX_ASIDE_END(w);
}

// --- the workers of one rank --------------------------------------------------------------------

// The number that says that all are there at this worker's next barrier.
PHX_FN uint64_t phx_barrier_next(struct phx_worker *w)
{
    phx_settle(w); // a worker arrives when its work is done, not before
    w->barriers++;
    return w->barriers * w->count;
}
// Counts this worker in, unless it left some work undone: then nobody may count it in.
PHX_FN uint64_t phx_barrier_arrive(struct phx_worker *w)
{
    uint64_t all = phx_barrier_next(w);
    if (!w->has_ended)
        phx_arrive(w, &w->rank->state->barrier_arrived, all);
    return all;
}
// Says no more than that it waits no longer.
PHX_FN uint64_t phx_barrier_tell(struct phx_worker *w)
{
    uint64_t all = phx_barrier_next(w);
    if (!w->has_ended)
        phx_arrive_relaxed(w, &w->rank->state->barrier_arrived, all);
    return all;
}

// True when all arrived; false when the operation was ended first, and the body must return.
PHX_FN int phx_barrier_wait(struct phx_worker *w, uint64_t all)
{
    struct phx_rank_state *state = w->rank->state;
    const uint64_t *const words[4] = {&state->barrier_arrived, &state->abort, &state->dead,
                                      &state->blocked_on};
    uint64_t seen[4];
    for (;;) {
        phx_gather_expecting(w, words, seen, 4);
        if (seen[0] >= all)
            return 1;
        if (w->has_ended || seen[1] != 0 || seen[2] != 0) {
            w->has_ended = 1;
            return 0;
        }
        uint64_t now = phx_now_looked(w);
        phx_notice_pause(w, now);
        phx_announce(w, seen[3]);
        if (!phx_local_reached(w, words[0], all))
            phx_park(w, words[0], 1, phx_poll_until(w, now));
    }
}

// Every worker of this rank has arrived; what any of them stored before is visible to all. False:
// they have not, the operation was ended; the body returns at once.
PHX_FN int phx_barrier(struct phx_worker *w)
{
    return phx_barrier_wait(w, phx_barrier_arrive(w));
}

// The end of a launch's last body that waits for peers. Worker 0, the one that can say WAITING,
// stays until the others have waited for the last time; nobody waits for it.
PHX_FN void phx_barrier_stay(struct phx_worker *w, uint64_t all)
{
    if (w->index == 0)
        phx_barrier_wait(w, all);
}
PHX_FN void phx_barrier_leave(struct phx_worker *w)
{
    phx_barrier_stay(w, phx_barrier_arrive(w));
}

#endif
