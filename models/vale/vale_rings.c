/*
 * The rings of a VALE port: what an application's syncs do (netmap.md 9.3), and who is told when
 * there is room again.
 */
#include "models/vale/vale_private.h"

static struct vale_gate *gate_of(const struct vale_port *port)
{
    return &port->na.host->vale->gate;
}

static struct vale_receiver *receiver_new(struct vale_port *port)
{
    struct vale_receiver *receiver =
        g_aligned_alloc0(1, sizeof(*receiver), _Alignof(struct vale_receiver));

    receiver->gate = gate_of(port);
    receiver->port = port;
    return receiver;
}

int vale_rings_init(struct vale_port *port)
{
    struct nm_adapter *na = &port->na;
    struct vale_gate *gate = gate_of(port);

    vale_gate_close(gate);
    for (unsigned i = 0; i < na->n_rings[NM_TX]; i++) {
        struct vale_sender *sender = vale_sender_new(gate, port);
        na->krings[NM_TX][i].sync = vale_txsync;
        na->krings[NM_TX][i].port_data = sender;
        vale_gate_add(gate, &sender->passer);
    }
    for (unsigned i = 0; i < na->n_rings[NM_RX]; i++) {
        struct vale_receiver *receiver = receiver_new(port);
        na->krings[NM_RX][i].sync = vale_rxsync;
        na->krings[NM_RX][i].port_data = receiver;
        vale_gate_add(gate, &receiver->passer);
        vale_queue_init(&na->krings[NM_RX][i]);
    }
    vale_gate_open(gate);
    return 0;
}

void vale_rings_clear(struct vale_port *port)
{
    struct nm_adapter *na = &port->na;
    struct vale_gate *gate = gate_of(port);

    vale_gate_close(gate);
    for (unsigned i = 0; i < na->n_rings[NM_TX]; i++) {
        struct vale_sender *sender = na->krings[NM_TX][i].port_data;
        vale_gate_remove(gate, &sender->passer);
        vale_sender_free(sender);
    }
    for (unsigned i = 0; i < na->n_rings[NM_RX]; i++) {
        struct vale_receiver *receiver = na->krings[NM_RX][i].port_data;
        vale_gate_remove(gate, &receiver->passer);
        g_aligned_free(receiver);
        vale_queue_clear(&na->krings[NM_RX][i]);
    }
    vale_gate_open(gate);
}

void vale_port_set_on(struct vale_port *port, bool is_on)
{
    struct vale_gate *gate = gate_of(port);

    vale_gate_close(gate);
    port->is_on = is_on;
    if (port->sw) {
        vale_wake_all(port->sw);
    }
    vale_gate_open(gate);
}

int vale_txsync(struct nm_kring *kring, int flags)
{
    struct vale_sender *sender = kring->port_data;

    (void)flags;
    vale_gate_enter(sender->gate, &sender->passer);
    struct vale_switch *sw = sender->port->sw;
    uint32_t end = sw ? vale_forward(kring, sw) : kring->rhead;
    vale_gate_leave(&sender->passer);
    kring->hwcur = end;
    atomic_store_explicit(&kring->hwtail, nm_prev(end, kring->num_slots), memory_order_relaxed);
    return 0;
}

int vale_rxsync(struct nm_kring *kring, int flags)
{
    struct vale_receiver *receiver = kring->port_data;
    const uint32_t head = kring->rhead;

    (void)flags;
    if (kring->hwcur == head) {
        return 0;
    }
    for (uint32_t i = kring->hwcur; i != head; i = nm_next(i, kring->num_slots)) {
        union nm_slot_word slot = nm_slot_load(&kring->ring->slot[i]);
        if (slot.flags & NS_BUF_CHANGED) {
            slot.flags &= (uint16_t)~NS_BUF_CHANGED;
            nm_slot_store(&kring->ring->slot[i], slot);
        }
    }
    vale_queue_release(kring, head);
    if (vale_has_waiting(receiver)) {
        vale_wake_waiting(kring);
    }
    return 0;
}

static void wake_port(const struct vale_port *port)
{
    for (unsigned i = 0; port->is_on && i < port->na.n_rings[NM_TX]; i++) {
        struct nm_kring *kring = &port->na.krings[NM_TX][i];
        nm_kr_notify(kring, 0);
    }
}

void vale_wake_waiting(struct nm_kring *kring)
{
    struct vale_receiver *receiver = kring->port_data;

    vale_gate_enter(receiver->gate, &receiver->passer);
    const struct vale_switch *sw = receiver->port->sw;
    for (unsigned i = 0; i < G_N_ELEMENTS(receiver->waiting); i++) {
        uint64_t bits = atomic_exchange(&receiver->waiting[i], 0);
        for (; sw && bits != 0; bits &= bits - 1) {
            unsigned port = i * 64 + (unsigned)__builtin_ctzll(bits);
            if (port < VALE_MAX_PORTS && sw->ports[port]) {
                wake_port(sw->ports[port]);
            }
        }
    }
    vale_gate_leave(&receiver->passer);
}

void vale_wake_all(struct vale_switch *sw)
{
    for (unsigned i = 0; sw->policy == VALE_FULL_WAIT && i < sw->n_active; i++) {
        wake_port(sw->ports[sw->active[i]]);
    }
}
