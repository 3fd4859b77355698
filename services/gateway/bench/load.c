/* Load generator: one thread, epoll, HTTP/1.1 keep-alive; checks every answer.
 *
 *   load HOST PORT CONNECTIONS SECONDS RATE EXPECT TEMPLATES
 *
 * TEMPLATES is a file of requests, each a decimal length, a newline and so many bytes. Request number k of connection c
 * is template (c + k * CONNECTIONS) modulo their number. MARK in a request and in EXPECT is replaced by the request's id.
 * An answer is right if its status is 200 and its body holds EXPECT and, where the request has "id":MARK, that id. RATE 0 sends the next request when
 * the answer is there (closed loop); else so many requests are due each second, and latency counts from when one was
 * due, so that a stall is charged to all that it delayed. Prints one line of JSON; times in milliseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MARK "@@@@@@@@@@"
#define DRAIN_NS 10000000000ull /* how long answers may take after the end */

typedef struct { char *text; size_t size; int has_id; } Bytes;
typedef enum { UNKNOWN, LENGTH, CHUNKED, CLOSE } Framing;
typedef struct {
    int fd, busy, has_id;
    uint64_t id, start, first, count;
    char *out, *in;
    size_t out_size, out_done, out_room, in_size, in_room;
    int status;
    Framing framing;
    size_t body, body_end, raw; /* offsets into in; raw: where undecoded chunks begin */
    size_t need, chunk;         /* bytes of the body, and of the chunk, still to come */
} Connection;
typedef struct { uint64_t *values; size_t count, room; } Samples;

static struct sockaddr_in address;
static Bytes *templates, expect;
static size_t template_count;
static Connection *connections, **idle;
static int connection_count, idle_count, epoll;
static uint64_t next_id = 1000000000ull, deadline, interval, due;
static uint64_t completed, late, errors, wrong, bytes;
static Samples whole, head;

static void die(const char *what) { perror(what); exit(2); }
static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
static void *grow(void *old, size_t *room, size_t wanted, size_t unit) {
    if (wanted <= *room) return old;
    while (*room < wanted) *room = *room ? *room * 2 : 4096;
    if (!(old = realloc(old, *room * unit))) die("realloc");
    return old;
}
static void sample(Samples *s, uint64_t value) {
    s->values = grow(s->values, &s->room, s->count + 1, sizeof *s->values);
    s->values[s->count++] = value;
}
static void patch(char *text, size_t size, uint64_t id) {
    char digits[16], *at = text;
    snprintf(digits, sizeof digits, "%010llu", (unsigned long long)id);
    while ((at = memmem(at, size - (size_t)(at - text), MARK, 10))) memcpy(at, digits, 10), at += 10;
}

static void dial(Connection *c) {
    int one = 1;
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}
static void flush(Connection *c) {
    while (c->out_done < c->out_size) {
        ssize_t n = write(c->fd, c->out + c->out_done, c->out_size - c->out_done);
        if (n < 0) return; /* EAGAIN: epoll says when to go on; a broken connection shows in read */
        c->out_done += (size_t)n;
    }
}
static void ask(Connection *c, uint64_t start) {
    const Bytes *t = &templates[((uint64_t)(c - connections) + c->count++ * (uint64_t)connection_count) % template_count];
    c->out = grow(c->out, &c->out_room, t->size, 1);
    memcpy(c->out, t->text, t->size);
    c->id = next_id++;
    c->has_id = t->has_id;
    patch(c->out, t->size, c->id);
    c->out_size = t->size;
    c->out_done = c->in_size = c->body = c->status = 0;
    c->framing = UNKNOWN;
    c->start = start;
    c->first = 0;
    c->busy = 1;
    flush(c);
}
static void next(Connection *c, uint64_t now) {
    c->busy = 0;
    if (now >= deadline) return;
    if (!interval) ask(c, now);
    else idle[idle_count++] = c;
}

static int holds(const Connection *c) {
    char id[40], want[256];
    const char *body = c->in + c->body;
    size_t size = c->body_end - c->body;
    snprintf(want, sizeof want, "%s", expect.text);
    patch(want, expect.size, c->id);
    if (!memmem(body, size, want, expect.size)) return 0;
    if (!c->has_id) return 1;
    int n = snprintf(id, sizeof id, "\"id\":%llu", (unsigned long long)c->id);
    if (memmem(body, size, id, (size_t)n)) return 1;
    n = snprintf(id, sizeof id, "\"id\": %llu", (unsigned long long)c->id);
    return memmem(body, size, id, (size_t)n) != NULL;
}
static void finish(Connection *c) {
    uint64_t now = now_ns();
    if (c->status != 200 || !holds(c)) {
        if (!wrong++)
            fprintf(stderr, "first wrong answer (status %d): %.*s\n", c->status,
                    (int)(c->body_end - c->body > 600 ? 600 : c->body_end - c->body), c->in + c->body);
    } else if (now <= deadline) {
        completed++;
        sample(&whole, now - c->start);
        sample(&head, c->first - c->start);
    } else late++;
    bytes += c->in_size;
    next(c, now);
}
static void hang_up(Connection *c) {
    close(c->fd);
    dial(c);
    if (!c->busy) return;
    if (c->framing == CLOSE) { finish(c); return; }
    if (!errors++) fprintf(stderr, "first broken connection: %zu bytes of an answer were there\n", c->in_size);
    next(c, now_ns());
}

static int read_head(Connection *c) {
    char *end = memmem(c->in, c->in_size, "\r\n\r\n", 4), *at;
    if (!end) return 0;
    *end = 0;
    c->status = atoi(c->in + 9);
    c->body = c->body_end = c->raw = (size_t)(end - c->in) + 4;
    c->chunk = 0;
    if ((at = strcasestr(c->in, "\r\ncontent-length:"))) c->framing = LENGTH, c->need = strtoull(at + 17, NULL, 10);
    else if (strcasestr(c->in, "\r\ntransfer-encoding: chunked")) c->framing = CHUNKED;
    else c->framing = CLOSE;
    return 1;
}
/* Moves the chunks' contents together; returns whether the last one is there. */
static int unchunk(Connection *c) {
    for (;;) {
        if (c->chunk) {
            size_t have = c->in_size - c->raw, take = have < c->chunk ? have : c->chunk;
            memmove(c->in + c->body_end, c->in + c->raw, take);
            c->body_end += take, c->raw += take, c->chunk -= take;
            if (c->chunk) return 0;
        }
        char *line = c->in + c->raw, *limit = c->in + c->in_size;
        if (c->raw > c->body && limit - line >= 2 && line[0] == '\r') line += 2; /* after the chunk before */
        char *end = memmem(line, (size_t)(limit - line), "\r\n", 2);
        if (!end) return 0;
        size_t size = strtoull(line, NULL, 16);
        if (!size) return limit - end >= 4; /* the last chunk, and the empty line after it */
        c->raw = (size_t)(end - c->in) + 2;
        c->chunk = size;
    }
}
static void readable(Connection *c) {
    for (;;) {
        c->in = grow(c->in, &c->in_room, c->in_size + 65536, 1);
        ssize_t n = read(c->fd, c->in + c->in_size, c->in_room - c->in_size - 1);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) { hang_up(c); return; }
        if (!c->busy) continue;
        c->in_size += (size_t)n;
        c->in[c->in_size] = 0;
        if (!c->body && !read_head(c)) continue;
        if (!c->first && c->in_size > c->body) c->first = now_ns();
        int done = 0;
        if (c->framing == LENGTH) c->body_end = c->in_size, done = c->in_size - c->body >= c->need;
        else if (c->framing == CHUNKED) done = unchunk(c);
        else c->body_end = c->in_size;
        if (done && !c->first) c->first = now_ns();
        if (done) finish(c);
    }
}

static void load_templates(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size, room = 0;
    if (!file) die(path);
    while (fscanf(file, "%zu", &size) == 1 && fgetc(file) == '\n') {
        templates = grow(templates, &room, template_count + 1, sizeof *templates);
        Bytes *t = &templates[template_count++];
        t->size = size;
        if (!(t->text = malloc(size)) || fread(t->text, 1, size, file) != size) die("template");
        t->has_id = memmem(t->text, size, "\"id\":" MARK, 15) != NULL;
    }
    fclose(file);
    if (!template_count) { fprintf(stderr, "%s holds no requests\n", path); exit(2); }
}
static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}
static double quantile(Samples *s, double q) {
    return s->count ? (double)s->values[(size_t)(q * (double)(s->count - 1))] / 1e6 : 0;
}
static void report(double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
    qsort(whole.values, whole.count, sizeof *whole.values, by_value);
    qsort(head.values, head.count, sizeof *head.values, by_value);
    printf("{\"completed\":%llu,\"late\":%llu,\"errors\":%llu,\"wrong\":%llu,\"bytes\":%llu,\"seconds\":%.3f,"
           "\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"p999\":%.4f,\"max\":%.4f,\"first_p50\":%.4f,\"first_p99\":%.4f,"
           "\"client_cpu_ms\":%.1f}\n",
           (unsigned long long)completed, (unsigned long long)late, (unsigned long long)errors,
           (unsigned long long)wrong, (unsigned long long)bytes, seconds, quantile(&whole, .5), quantile(&whole, .9),
           quantile(&whole, .99), quantile(&whole, .999), quantile(&whole, 1), quantile(&head, .5),
           quantile(&head, .99), cpu);
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "usage: load HOST PORT CONNECTIONS SECONDS RATE EXPECT TEMPLATES\n"); return 2; }
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) die(argv[1]);
    connection_count = atoi(argv[3]);
    double seconds = atof(argv[4]), rate = atof(argv[5]);
    expect = (Bytes){argv[6], strlen(argv[6]), 0};
    if (connection_count < 1 || expect.size > 255) { fprintf(stderr, "CONNECTIONS < 1, or EXPECT > 255 bytes\n"); return 2; }
    load_templates(argv[7]);
    connections = calloc((size_t)connection_count, sizeof *connections);
    idle = calloc((size_t)connection_count, sizeof *idle);
    if (!connections || !idle || (epoll = epoll_create1(0)) < 0) die("setup");
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    if (timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event)) die("timerfd");
    for (int i = 0; i < connection_count; i++) dial(&connections[i]);
    interval = rate > 0 ? (uint64_t)(1e9 / rate) : 0;
    uint64_t begin = due = now_ns();
    deadline = begin + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connection_count; i++) next(&connections[i], begin);

    for (;;) {
        uint64_t now = now_ns();
        if (now >= deadline) {
            int busy = 0;
            for (int i = 0; i < connection_count; i++) busy += connections[i].busy;
            if (busy && now >= deadline + DRAIN_NS) errors += (uint64_t)busy;
            if (!busy || now >= deadline + DRAIN_NS) break;
        } else if (interval) {
            while (due <= now && due < deadline && idle_count) ask(idle[--idle_count], due), due += interval;
            struct itimerspec at = {0}; /* disarmed where nobody is free: an answer wakes us */
            if (idle_count) at.it_value = (struct timespec){(time_t)(due / 1000000000ull), (long)(due % 1000000000ull)};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        int n = epoll_wait(epoll, events, 256, 10);
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            uint64_t ticks;
            if (!c) { if (read(timer, &ticks, 8) < 0 && errno != EAGAIN) die("timer"); continue; }
            if (events[i].events & EPOLLOUT) flush(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
        }
    }
    report(seconds);
    return 0;
}
