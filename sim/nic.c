// sim/nic.c: reliable-connected queue pairs, at the level of messages.
//
// A message that nothing disturbs lands whole. One that a fault touched is judged packet by packet:
// what arrived is placed (go-back-N: up to the first loss; selective: all that arrived), and the
// queue pair waits, either for a NAK (a later packet showed the gap) or for its timer, and sends
// again from the first message that is not acknowledged. After a timeout it sends that message
// alone until it gets through. retry_count timeouts in a row without progress end the connection:
// its oldest op fails as PHX_ERR_PEER_LOST, all others flush, and what had arrived of the message
// stays in the peer's memory.
//
// The target answers nothing when its process is gone, is another incarnation, or has fenced the
// source; it refuses (NAK) what its memory protection forbids, and the queue pair goes to error:
// everything outstanding and later flushes until the peer is connected again.
//
// Not modelled: receiver-not-ready (writes need no posted receive), reads, atomics, and packet
// sequence number wrap. Duplicates are recognised by message, as a real target does by packet
// number.

#include "sim/fabric_internal.h"

enum wc_code { // as in IBV_WC_*, for logs alone
    WC_LOC_PROT_ERR = 4,
    WC_REM_ACCESS_ERR = 10,
    WC_RETRY_EXC_ERR = 12
};

#define TRACKED_PACKETS 64u // of a message of which single packets are remembered

static const struct phx_preset *preset_of(const struct phx_fabric *f)
{
    return phx_network_preset(f->network, PHX_PLANE_NIC);
}

// --- waiting and sending again ------------------------------------------------------------------

// Message `index` is not acknowledged. It and all that was sent after it will be sent again.
static void wait_to_resend(struct phx_fabric *f, uint32_t index, bool nak)
{
    struct phx_carried *m = phx_carried_at(f, index);
    uint32_t queue = m->queue;
    struct phx_queue *q = phx_queue_at(f, queue);
    if (!phx_carried_owned(f, m)) {
        // Its queue pairs went with the process. Nobody sends this one again, and the target takes
        // nothing that follows it.
        q->deaf = true;
        phx_carried_finish(f, index, PHX_ERR_FLUSHED, 0);
        return;
    }
    // A NAK comes back after one flight. A timer has run since the message had left.
    uint64_t at_ps = phx_core_now_ps(f->core) + m->flight_ps;
    if (!nak)
        at_ps = m->gone_ps + preset_of(f)->ack_timeout_ps;
    phx_queue_rewind(f, queue, index);
    q->state = PHX_QUEUE_WAITING;
    if (nak)
        q->retries = 0; // the target answers
    else
        q->retries++;
    q->timer++;
    if (!phx_core_schedule(f->core, at_ps, PHX_NETWORK_RETRY, queue, q->timer))
        phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for a retry timer");
}

void phx_nic_retry(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    if (q->state != PHX_QUEUE_WAITING || q->unsent == PHX_NO_MESSAGE)
        return;
    const struct phx_carried *m = phx_carried_at(f, q->unsent);
    if (q->retries > preset_of(f)->retry_count) {
        phx_connection_lose(f, m->source, m->op.peer.rank, q->unsent, PHX_ERR_PEER_LOST,
                            WC_RETRY_EXC_ERR, PHX_ERR_FLUSHED);
        return;
    }
    q->state = q->retries > 0 ? PHX_QUEUE_PROBING : PHX_QUEUE_READY;
    q->probe = q->unsent;
    phx_queue_send(f, queue);
}

static void progress(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    q->retries = 0;
    if (q->state == PHX_QUEUE_PROBING) {
        q->state = PHX_QUEUE_READY;
        phx_queue_send(f, queue);
    }
}

void phx_nic_refuse(struct phx_fabric *f, uint32_t index, int status)
{
    struct phx_carried *m = phx_carried_at(f, index);
    uint32_t queue = m->queue;
    uint32_t code = m->state == PHX_MESSAGE_SENT ? WC_REM_ACCESS_ERR : WC_LOC_PROT_ERR;
    phx_queue_at(f, queue)->state = PHX_QUEUE_ERROR;
    phx_queue_flush(f, queue, index, status, code, PHX_ERR_FLUSHED);
}

// --- packets, only for messages that a fault touched --------------------------------------------

static void land_packets(struct phx_fabric *f, struct phx_carried *m, const struct phx_place *place,
                         uint32_t first, uint32_t last)
{
    struct phx_flight flight = phx_carried_flight(m);
    uint32_t packets = phx_network_packets(f->network, &flight);
    uint64_t begin = (uint64_t)m->op.size_bytes * first / packets;
    uint64_t end = (uint64_t)m->op.size_bytes * last / packets;
    phx_carried_land(f, m, place, begin, end, false);
}

// Places what this attempt brought. True when the message is whole; *nak: the target saw a gap.
static bool receive_packets(struct phx_fabric *f, uint32_t index, const struct phx_place *place,
                            bool *nak)
{
    struct phx_carried *m = phx_carried_at(f, index);
    struct phx_more *more = phx_more_at(f, index);
    struct phx_flight flight = phx_carried_flight(m);
    uint32_t packets = phx_network_packets(f->network, &flight);
    uint32_t damaged = packets; // which one the check refuses: none
    if (m->damaged)
        damaged =
            (uint32_t)phx_chance_below(packets, f->seed, PHX_CHANCE_CORRUPT, m->queue, m->ordinal);
    m->damaged = false;
    bool selective = preset_of(f)->selective && packets <= TRACKED_PACKETS;
    bool gap = false;
    *nak = false;
    for (uint32_t i = 0; i < packets; i++) {
        bool had = selective ? (more->got >> i & 1) != 0 : i < more->received;
        if (had)
            continue;
        if (i == damaged || phx_network_packet_lost(f->network, &flight, i)) {
            f->figures.packets_lost++;
            gap = true;
            continue;
        }
        *nak = *nak || gap;
        if (selective)
            more->got |= 1ull << i;
        else if (gap)
            continue; // out of sequence: dropped
        else
            more->received = i + 1;
        land_packets(f, m, place, i, i + 1);
    }
    return !gap;
}

// --- delivery -----------------------------------------------------------------------------------

// True when the acknowledgement of a delivered message got lost. Later ones would make up for it,
// so it matters only when there is none, or when nothing comes back.
static bool acknowledgement_lost(struct phx_fabric *f, const struct phx_carried *m)
{
    if (phx_network_clean(f->network, m->op.peer.rank, m->source, phx_core_now_ps(f->core)))
        return false;
    if (phx_network_down(f->network, m->op.peer.rank, m->source))
        return true;
    struct phx_flight back = phx_carried_flight(m);
    back.source = m->op.peer.rank;
    back.target = m->source;
    back.size_bytes = 0;
    back.leave_ps = phx_core_now_ps(f->core);
    back.gone_ps = back.leave_ps;
    back.who |= 1ull << 40; // other draws than the message's own
    return phx_network_packet_lost(f->network, &back, 0) && m->next == PHX_NO_MESSAGE;
}

static bool target_answers(struct phx_fabric *f, const struct phx_carried *m)
{
    const struct phx_fabric_rank *target = &f->ranks[m->op.peer.rank];
    const struct phx_connection *c = phx_connection_at(f, m->source, m->op.peer.rank);
    if (!target->alive || target->incarnation != c->incarnation)
        return false;
    if (phx_carried_fenced(f, m)) {
        f->figures.fenced++;
        return false;
    }
    return true;
}

// 0 and the place, or why the target's memory refuses the message, or the source's cannot be read.
static int refusal(struct phx_fabric *f, const struct phx_carried *m, struct phx_place *place)
{
    int error = phx_carried_place(f, m, place);
    if (error == 0 && f->ranks[m->op.peer.rank].gpu_dead)
        error = PHX_ERR_PROTECTION;
    return error;
}

static void acknowledge(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    uint32_t queue = m->queue;
    if (acknowledgement_lost(f, m)) {
        m->state = PHX_MESSAGE_LANDED;
        wait_to_resend(f, index, false);
        m->state = PHX_MESSAGE_POSTED;
        struct phx_more *more = phx_more_at(f, index);
        more->got = UINT64_MAX; // the target knows all of it
        more->received = UINT32_MAX;
        return;
    }
    phx_carried_acknowledge(f, index, 0, 0);
    progress(f, queue);
}

void phx_nic_deliver(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    bool flushed = m->state == PHX_MESSAGE_FINISHED; // reported already, and still on the wire
    if (m->renewals != (uint16_t)phx_queue_of(f, m)->renewals) {
        if (!flushed) // the target made its end anew, too, and knows none of the old one's packets
            phx_carried_finish(f, index, PHX_ERR_FLUSHED, 0);
        return;
    }
    if (!target_answers(f, m)) {
        if (!flushed)
            wait_to_resend(f, index, false);
        return;
    }
    if (phx_queue_of(f, m)->deaf) {
        // To be flushed with the one that was refused; of a dead process nobody does that.
        if (!flushed && !phx_carried_owned(f, m))
            phx_carried_finish(f, index, PHX_ERR_FLUSHED, 0);
        return;
    }
    bool clean = phx_network_clean(f->network, m->source, m->op.peer.rank, m->posted_ps);
    bool duplicate = m->has_more && phx_more_at(f, index)->received == UINT32_MAX;
    struct phx_flight flight = phx_carried_flight(m);
    bool nak = false;
    if (duplicate) {
        if (flushed) // ended with its connection; nobody waits for an answer
            return;
        if (phx_network_packet_lost(f->network, &flight, 0)) {
            wait_to_resend(f, index, false);
            return;
        }
        f->figures.duplicates++;
        acknowledge(f, index);
        return;
    }
    struct phx_place place;
    int error = refusal(f, m, &place);
    if (error != 0) {
        f->figures.refused++;
        phx_queue_of(f, m)->deaf = true;
        if (!flushed)
            phx_carried_acknowledge(f, index, error, WC_REM_ACCESS_ERR);
        return;
    }
    bool pieces = !clean || m->resent || m->damaged;
    if (pieces && !receive_packets(f, index, &place, &nak)) {
        if (flushed)
            phx_queue_of(f, m)->deaf = true; // the same: it is given up
        else
            wait_to_resend(f, index, nak);
        return;
    }
    if (!clean && phx_network_duplicated(f->network, &flight))
        f->figures.duplicates++; // its second copy has old packet numbers
    phx_carried_land(f, m, &place, 0, pieces ? 0 : m->op.size_bytes, true);
    if (!flushed)
        acknowledge(f, index);
}
