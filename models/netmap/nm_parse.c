/*
 * The grammar of port names, libnetmap's (netmap.md 4.2): prefix, name, pipe, rings, flags, memory
 * and options. Opening what was parsed is nm_port.c's.
 */
#include "models/netmap/nm_parse_private.h"

#include <errno.h>
#include <string.h>

struct scan {
    struct nm_host *host;
    struct nm_parsed *out;
    const char *name; /* all of it, for messages */
    const char *at;
    GError **error;
};

G_GNUC_PRINTF(3, 4) static bool fail(struct scan *s, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(s->error, NM_ERROR, err, "%s: %s", s->name, why);
    return false;
}

static bool is_ident(char c)
{
    return g_ascii_isalnum(c) || c == '_';
}

/* Decimal digits, at most max. */
static bool number(struct scan *s, uint64_t max, const char *what, uint64_t *value)
{
    const char *from = s->at;

    *value = 0;
    for (; g_ascii_isdigit(*s->at); s->at++) {
        *value = *value * 10 + (uint64_t)(*s->at - '0');
        if (*value > max) {
            return fail(s, EINVAL, "%s is more than %" G_GUINT64_FORMAT, what, max);
        }
    }
    return s->at != from || fail(s, EINVAL, "%s is missing at \"%s\"", what, from);
}

/* ---- prefix, name, pipe ---- */

static bool prefix(struct scan *s, const char **name)
{
    static const char system[] = "netmap:", vale[] = "vale";

    if (strncmp(s->at, system, strlen(system)) == 0) {
        s->at += strlen(system);
        *name = s->at;
        return true;
    }
    *name = s->at;
    if (strncmp(s->at, vale, strlen(vale)) != 0) {
        return fail(s, EINVAL, "begins neither with \"netmap:\" nor with \"vale\"");
    }
    for (s->at += strlen(vale); is_ident(*s->at); s->at++) {
    }
    if (*s->at != ':') {
        return fail(s, EINVAL, "no ':' behind the name of the switch");
    }
    s->at++;
    return true;
}

static bool port_name(struct scan *s)
{
    const char *name, *pipe;
    size_t len;

    if (!prefix(s, &name)) {
        return false;
    }
    s->at += strcspn(s->at, "-*^/@");
    len = (size_t)(s->at - name);
    if (len == 0 || len >= sizeof(s->out->header.nr_name)) {
        return fail(s, EINVAL, "the name has %zu characters, not 1 to %zu", len,
                    sizeof(s->out->header.nr_name) - 1);
    }
    memcpy(s->out->header.nr_name, name, len);
    pipe = strpbrk(s->out->header.nr_name, "{}");
    for (const char *c = pipe ? pipe + 1 : ""; *c; c++) {
        if (!is_ident(*c)) {
            return fail(s, EINVAL, "'%c' in the name of a pipe", *c);
        }
    }
    return true;
}

/* ---- rings and flags ---- */

enum { MAX_RING = 4094 };

static bool one_ring(struct scan *s, uint32_t mode)
{
    uint64_t ring;

    if (!number(s, MAX_RING, "ring number", &ring)) {
        return false;
    }
    s->out->reg.nr_mode = mode;
    s->out->reg.nr_ringid = (uint16_t)ring;
    return true;
}

static bool rings(struct scan *s)
{
    bool is_good = true;

    s->out->reg.nr_mode = NR_REG_ALL_NIC;
    switch (*s->at) {
    case '^':
        s->at++;
        s->out->reg.nr_mode = NR_REG_SW;
        is_good = !g_ascii_isdigit(*s->at) || one_ring(s, NR_REG_ONE_SW);
        break;
    case '*':
        s->at++;
        s->out->reg.nr_mode = NR_REG_NIC_SW;
        break;
    case '-':
        s->at++;
        is_good = one_ring(s, NR_REG_ONE_NIC);
        break;
    default:
        break;
    }
    if (is_good && *s->at && *s->at != '/' && *s->at != '@') {
        return fail(s, EINVAL, "unexpected \"%s\"", s->at);
    }
    return is_good;
}

static bool flags(struct scan *s)
{
    static const struct {
        char letter;
        uint64_t flag;
    } known[] = {
        {'x', NR_EXCLUSIVE},  {'z', NR_ZCOPY_MON},     {'t', NR_MONITOR_TX},
        {'r', NR_MONITOR_RX}, {'R', NR_RX_RINGS_ONLY}, {'T', NR_TX_RINGS_ONLY},
    };

    if (*s->at != '/') {
        return true;
    }
    for (s->at++; *s->at && *s->at != '@'; s->at++) {
        size_t i = 0;

        while (i < G_N_ELEMENTS(known) && known[i].letter != *s->at) {
            i++;
        }
        if (i == G_N_ELEMENTS(known)) {
            return fail(s, EINVAL, "unknown flag '%c'", *s->at);
        }
        s->out->reg.nr_flags |= known[i].flag;
    }
    return true;
}

/* ---- memory and options ---- */

static bool set_mem_id(struct scan *s, uint64_t id)
{
    if (s->out->reg.nr_mem_id && s->out->reg.nr_mem_id != id) {
        return fail(s, EINVAL, "memory %u and memory %" G_GUINT64_FORMAT " at once",
                    s->out->reg.nr_mem_id, id);
    }
    s->out->reg.nr_mem_id = (uint16_t)id;
    return true;
}

static bool value_number(struct scan *s, const char *key, const char *value, uint64_t max,
                         uint64_t *result)
{
    struct scan of_value = *s;

    of_value.at = value;
    if (!number(&of_value, max, key, result)) {
        return false;
    }
    return !*of_value.at || fail(s, EINVAL, "%s=%s is no number", key, value);
}

static bool option_conf(struct scan *s, const char *key, const char *value)
{
    struct nmreq_register *r = &s->out->reg;
    const struct {
        const char *key;
        uint16_t *a16, *b16;
        uint32_t *a32, *b32;
    } keys[] = {
        {"rings", &r->nr_tx_rings, &r->nr_rx_rings, NULL, NULL},
        {"tx_rings", &r->nr_tx_rings, NULL, NULL, NULL},
        {"rx_rings", &r->nr_rx_rings, NULL, NULL, NULL},
        {"host_rings", &r->nr_host_tx_rings, &r->nr_host_rx_rings, NULL, NULL},
        {"host_tx_rings", &r->nr_host_tx_rings, NULL, NULL, NULL},
        {"host_rx_rings", &r->nr_host_rx_rings, NULL, NULL, NULL},
        {"slots", NULL, NULL, &r->nr_tx_slots, &r->nr_rx_slots},
        {"tx_slots", NULL, NULL, &r->nr_tx_slots, NULL},
        {"rx_slots", NULL, NULL, &r->nr_rx_slots, NULL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        const uint64_t max = keys[i].a16 ? UINT16_MAX : UINT32_MAX;
        uint64_t n;

        if (strcmp(keys[i].key, key) != 0) {
            continue;
        }
        if (!value_number(s, key, value, max, &n)) {
            return false;
        }
        for (int half = 0; half < 2; half++) {
            uint16_t *to16 = half ? keys[i].b16 : keys[i].a16;
            uint32_t *to32 = half ? keys[i].b32 : keys[i].a32;

            if (to16) {
                *to16 = (uint16_t)n;
            }
            if (to32) {
                *to32 = (uint32_t)n;
            }
        }
        return true;
    }
    return fail(s, EINVAL, "option conf has no key \"%s\"", key);
}

static bool option_extmem(struct scan *s, const char *key, const char *value)
{
    struct nmreq_pools_info *info = &s->out->extmem;
    const struct {
        const char *key;
        uint32_t *field;
    } keys[] = {
        {"if_num", &info->nr_if_pool_objtotal},     {"if_size", &info->nr_if_pool_objsize},
        {"ring_num", &info->nr_ring_pool_objtotal}, {"ring_size", &info->nr_ring_pool_objsize},
        {"buf_num", &info->nr_buf_pool_objtotal},   {"buf_size", &info->nr_buf_pool_objsize},
    };

    if (strcmp(key, "file") == 0) {
        g_free(s->out->extmem_file);
        s->out->extmem_file = g_strdup(value);
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        uint64_t n;

        if (strcmp(keys[i].key, key) == 0) {
            if (!value_number(s, key, value, UINT32_MAX, &n)) {
                return false;
            }
            *keys[i].field = (uint32_t)n;
            return true;
        }
    }
    return fail(s, EINVAL, "option extmem has no key \"%s\"", key);
}

/* The allocator that another port uses. */
static bool option_share(struct scan *s, const char *key, const char *value)
{
    struct nm_parsed other = {0};
    struct scan of_other = {.host = s->host, .out = &other, .name = value, .error = s->error};
    struct nmreq_port_info_get info = {0};
    struct nm_file *file;
    int err = ENFILE;

    if (strcmp(key, "port") != 0) {
        return fail(s, EINVAL, "option share has no key \"%s\"", key);
    }
    of_other.at = value;
    if (!port_name(&of_other)) {
        return false;
    }
    other.header.nr_version = NETMAP_API;
    other.header.nr_reqtype = NETMAP_REQ_PORT_INFO_GET;
    other.header.nr_body = (uintptr_t)&info;
    file = s->host ? nm_open(s->host) : NULL;
    if (file) {
        err = nm_ctrl(file, &other.header);
        nm_close(file);
    }
    if (err) {
        return fail(s, err, "share=%s: %s", value, g_strerror(err));
    }
    return set_mem_id(s, info.nr_mem_id);
}

static bool option_offset(struct scan *s, const char *key, const char *value)
{
    (void)key;
    (void)value;
    return fail(s, EOPNOTSUPP, "option offset has to be asked for by a request");
}

typedef bool (*option_fn)(struct scan *s, const char *key, const char *value);
struct option {
    const char *name, *default_key; /* of name=value; NULL: a key has to be named */
    option_fn set;
};

/* "key=value" of an option; '-' is read as '_'. */
static bool option_pair(struct scan *s, const struct option *option, char *pair)
{
    char *equals = strchr(pair, '=');

    if (!equals) {
        return fail(s, EINVAL, "option %s: \"%s\" has no '='", option->name, pair);
    }
    *equals = 0;
    return option->set(s, g_strdelimit(pair, "-", '_'), equals + 1);
}

static bool option(struct scan *s, char *text)
{
    static const struct option options[] = {
        {"conf", NULL, option_conf},
        {"extmem", "file", option_extmem},
        {"share", "port", option_share},
        {"offset", "initial", option_offset},
    };
    const size_t len = strcspn(text, ":=");
    const char after = text[len];
    const struct option *found = NULL;

    text[len] = 0;
    g_strdelimit(text, "-", '_');
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        found = strcmp(options[i].name, text) == 0 ? &options[i] : found;
    }
    if (!found || !after) {
        return fail(s, EINVAL, found ? "option \"%s\" has no value" : "unknown option \"%s\"",
                    text);
    }
    if (after == '=') {
        return found->default_key ? found->set(s, found->default_key, text + len + 1)
                                  : fail(s, EINVAL, "option %s needs a key", text);
    }
    g_auto(GStrv) pairs = g_strsplit(text + len + 1, ",", -1);
    for (char **pair = pairs; *pair; pair++) {
        if (!option_pair(s, found, *pair)) {
            return false;
        }
    }
    return *pairs || fail(s, EINVAL, "option %s is empty", text);
}

static bool options(struct scan *s)
{
    if (*s->at == '@' && g_ascii_isdigit(s->at[1])) {
        uint64_t id;

        s->at++;
        if (!number(s, UINT16_MAX, "memory id", &id)) {
            return false;
        }
        if (id == 0 || (*s->at && *s->at != '@')) {
            return fail(s, EINVAL, "bad memory id");
        }
        s->out->reg.nr_mem_id = (uint16_t)id;
    }
    while (*s->at == '@') {
        const size_t len = strcspn(++s->at, "@");
        g_autofree char *text = g_strndup(s->at, len);

        s->at += len;
        if (!option(s, text)) {
            return false;
        }
    }
    return !*s->at || fail(s, EINVAL, "unexpected \"%s\"", s->at);
}

bool nm_parse(struct nm_host *host, const char *name, struct nm_parsed *parsed, GError **error)
{
    struct scan s = {.host = host, .out = parsed, .name = name, .at = name, .error = error};

    *parsed =
        (struct nm_parsed){.header = {.nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER}};
    if (!port_name(&s) || !rings(&s) || !flags(&s) || !options(&s)) {
        nm_parsed_clear(parsed);
        return false;
    }
    return true;
}

void nm_parsed_clear(struct nm_parsed *parsed)
{
    g_clear_pointer(&parsed->extmem_file, g_free);
}
