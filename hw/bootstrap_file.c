// hw/bootstrap_file.c: file://DIRECTORY, for the ranks of one host. Nobody serves.
//
//     lock        held while somebody joins or leaves
//     job         the job's number and its number of ranks
//     open        all ranks had joined
//     rank-R      its incarnation and first exchange; locked by R while R lives
//     row-N-R     what R gives to exchange N
//
// The directory is 0700 and this user's own. Every file but `lock` and `open` ends with a hash that
// is keyed with the secret and covers the job's number. Locks are the kernel's (OFD), so that a
// process that is killed gives its lock up. The last one who leaves removes everything; if the last
// one is killed, the next who joins does.
//
// A row, once renamed into place, stays until its rank has finished the next exchange, which it can
// only when all others have read it. So a rank that finds neither a row nor its writer alive, in
// this order and then the row once more, knows that there will be none.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hw/bootstrap_internal.h"

#define FILE_VERSION 1u
#define HEAD_BYTES 40u
#define MAC_BYTES 32u
#define CHUNK_BYTES 65536u
#define LOOK_MS_MAX 10u

enum kind { KIND_JOB = 1, KIND_RANK, KIND_ROW };

struct head { // of a file: 40 bytes, little-endian
    uint32_t kind;
    uint64_t job; // of KIND_JOB: the number itself
    uint32_t rank;
    uint32_t number; // KIND_JOB: ranks; KIND_RANK: incarnation; KIND_ROW: of the exchange
    uint32_t extra;  // KIND_RANK: first exchange; KIND_ROW: bytes of a blob
};

struct phx_bootstrap_file {
    int directory;
    int lock;
    int mine; // rank-R, locked
    uint8_t key[PHX_WIRE_KEY];
    uint8_t chunk[CHUNK_BYTES];
    char path[PHX_BOOTSTRAP_URL_MAX];
};

static void pause_ms(uint32_t ms)
{
    struct timespec pause = {0, (long)ms * 1000000};
    (void)nanosleep(&pause, NULL);
}

// --- locks --------------------------------------------------------------------------------------

static bool lock_take(int file)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(file, F_OFD_SETLK, &whole) == 0;
}
static bool lock_is_held(int file) // by another
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(file, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}
static void lock_drop(struct phx_bootstrap_file *f)
{
    if (f->lock >= 0)
        (void)close(f->lock);
    f->lock = -1;
}

// --- records ------------------------------------------------------------------------------------

static void head_write(const struct head *h, uint8_t bytes[HEAD_BYTES])
{
    memset(bytes, 0, HEAD_BYTES);
    phx_wire_put(bytes, PHX_WIRE_MAGIC, 4);
    phx_wire_put(bytes + 4, FILE_VERSION, 4);
    phx_wire_put(bytes + 8, h->kind, 4);
    phx_wire_put(bytes + 12, h->rank, 4);
    phx_wire_put(bytes + 16, h->job, 8);
    phx_wire_put(bytes + 24, h->number, 4);
    phx_wire_put(bytes + 28, h->extra, 4);
}

static bool head_read(const uint8_t bytes[HEAD_BYTES], struct head *h)
{
    h->kind = (uint32_t)phx_wire_get(bytes + 8, 4);
    h->rank = (uint32_t)phx_wire_get(bytes + 12, 4);
    h->job = phx_wire_get(bytes + 16, 8);
    h->number = (uint32_t)phx_wire_get(bytes + 24, 4);
    h->extra = (uint32_t)phx_wire_get(bytes + 28, 4);
    return phx_wire_get(bytes, 4) == PHX_WIRE_MAGIC && phx_wire_get(bytes + 4, 4) == FILE_VERSION;
}

static bool read_all(int file, uint8_t *bytes, size_t count, off_t at)
{
    while (count > 0) {
        ssize_t got = pread(file, bytes, count, at);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            return false;
        bytes += got > 0 ? got : 0;
        at += got > 0 ? got : 0;
        count -= got > 0 ? (size_t)got : 0;
    }
    return true;
}
static bool write_all(int file, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t wrote = write(file, bytes, count);
        if (wrote < 0 && errno != EINTR)
            return false;
        bytes += wrote > 0 ? wrote : 0;
        count -= wrote > 0 ? (size_t)wrote : 0;
    }
    return true;
}

// A record is a head, `bytes` of data and the hash.
static bool record_write(const struct phx_bootstrap_file *f, int file, const struct head *h,
                         const uint8_t *data, uint64_t bytes)
{
    uint8_t head[HEAD_BYTES];
    uint8_t mac[MAC_BYTES];
    crypto_generichash_state hash;
    head_write(h, head);
    (void)crypto_generichash_init(&hash, f->key, sizeof f->key, sizeof mac);
    (void)crypto_generichash_update(&hash, head, sizeof head);
    if (bytes > 0)
        (void)crypto_generichash_update(&hash, data, bytes);
    (void)crypto_generichash_final(&hash, mac, sizeof mac);
    return write_all(file, head, sizeof head) && (bytes == 0 || write_all(file, data, bytes)) &&
           write_all(file, mac, sizeof mac);
}

// Reads and checks a whole record. Of the data, [from, from + count) is left in slice.
static bool record_read(struct phx_bootstrap_file *f, int file, struct head *h, uint64_t bytes,
                        uint64_t from, uint64_t count, uint8_t *slice)
{
    uint8_t head[HEAD_BYTES];
    uint8_t mac[MAC_BYTES];
    uint8_t kept[MAC_BYTES];
    crypto_generichash_state hash;
    (void)crypto_generichash_init(&hash, f->key, sizeof f->key, sizeof mac);
    if (!read_all(file, head, sizeof head, 0) || !head_read(head, h))
        return false;
    (void)crypto_generichash_update(&hash, head, sizeof head);
    for (uint64_t at = 0; at < bytes;) {
        uint64_t size = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;
        if (!read_all(file, f->chunk, (size_t)size, (off_t)(HEAD_BYTES + at)))
            return false;
        (void)crypto_generichash_update(&hash, f->chunk, size);
        uint64_t first = at > from ? at : from; // of both
        uint64_t last = at + size < from + count ? at + size : from + count;
        if (first < last)
            memcpy(slice + (first - from), f->chunk + (first - at), (size_t)(last - first));
        at += size;
    }
    (void)crypto_generichash_final(&hash, mac, sizeof mac);
    return read_all(file, kept, sizeof kept, (off_t)(HEAD_BYTES + bytes)) &&
           sodium_memcmp(mac, kept, sizeof mac) == 0;
}

static DIR *list_open(const struct phx_bootstrap_file *f)
{
    int file = openat(f->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = file >= 0 ? fdopendir(file) : NULL;
    if (list == NULL && file >= 0)
        (void)close(file);
    return list;
}

static int open_at(const struct phx_bootstrap_file *f, const char *name, int flags)
{
    return openat(f->directory, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

// --- who lives ----------------------------------------------------------------------------------

static void rank_name(char name[24], uint32_t rank)
{
    (void)snprintf(name, 24, "rank-%u", rank);
}

// Does the rank live, and from which exchange on does it take part?
static bool rank_lives(const struct phx_bootstrap *b, uint32_t rank, uint32_t *first)
{
    struct phx_bootstrap_file *f = b->file;
    char name[24];
    struct head h;
    rank_name(name, rank);
    int file = open_at(f, name, O_RDWR);
    if (file < 0)
        return false;
    bool is_held = lock_is_held(file);
    // A record that is being written does not check; its writer is then about to take part.
    *first =
        is_held && record_read(f, file, &h, 0, 0, 0, NULL) && h.kind == KIND_RANK ? h.extra : 1;
    (void)close(file);
    return is_held;
}

static bool anyone_lives(const struct phx_bootstrap *b)
{
    bool is_found = false;
    DIR *d = list_open(b->file);
    if (d == NULL)
        return true; // don't clean up what can't be read
    for (struct dirent *e; !is_found && (e = readdir(d)) != NULL;) {
        if (strncmp(e->d_name, "rank-", 5) != 0)
            continue;
        int file = open_at(b->file, e->d_name, O_RDWR);
        is_found = file >= 0 && lock_is_held(file);
        if (file >= 0)
            (void)close(file);
    }
    (void)closedir(d);
    return is_found;
}

// Removes what the bootstrap makes, `lock` excepted; anything else stays.
static void clean(const struct phx_bootstrap_file *f)
{
    DIR *d = list_open(f);
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, "job") == 0 || strcmp(e->d_name, "open") == 0 ||
            strncmp(e->d_name, "rank-", 5) == 0 || strncmp(e->d_name, "row-", 4) == 0 ||
            strncmp(e->d_name, ".new-", 5) == 0)
            (void)unlinkat(f->directory, e->d_name, 0);
    (void)closedir(d);
}

// The highest exchange that anyone has given to.
static uint32_t exchange_last(const struct phx_bootstrap_file *f)
{
    uint32_t last = 0;
    DIR *d = list_open(f);
    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strncmp(e->d_name, "row-", 4) == 0) {
            unsigned long number = strtoul(e->d_name + 4, NULL, 10);
            last = number > last && number < UINT32_MAX ? (uint32_t)number : last;
        }
    (void)closedir(d);
    return last;
}

// --- the directory ------------------------------------------------------------------------------

static int directory_open(struct phx_bootstrap_file *f, struct phx_message *message)
{
    if (mkdir(f->path, 0700) != 0 && errno != EEXIST)
        return phx_fail(message, PHX_ERR_IO, "can't make the directory %.120s: %s", f->path,
                        strerror(errno));
    f->directory = open(f->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (f->directory < 0 || fstat(f->directory, &status) != 0)
        return phx_fail(message, PHX_ERR_IO, "can't open the directory %.120s: %s", f->path,
                        strerror(errno));
    if (status.st_uid != geteuid() || (status.st_mode & 077) != 0)
        return phx_fail(message, PHX_ERR_PROTECTION,
                        "the directory %.120s has mode %03o and belongs to user %u; it must be "
                        "700 and this user's",
                        f->path, (unsigned)status.st_mode & 0777u, (unsigned)status.st_uid);
    return 0;
}

// Opens the directory and takes its lock. The last one who left may have removed either meanwhile:
// then from the start.
static int directory_lock(struct phx_bootstrap_file *f, uint64_t until_ms,
                          struct phx_message *message)
{
    for (;;) {
        int rc = f->directory < 0 ? directory_open(f, message) : 0;
        if (rc != 0)
            return rc;
        f->lock = open_at(f, "lock", O_RDWR | O_CREAT);
        if (f->lock < 0 && errno != ENOENT)
            return phx_fail(message, PHX_ERR_IO, "can't open %.120s/lock: %s", f->path,
                            strerror(errno));
        while (f->lock >= 0 && !lock_take(f->lock)) {
            if (phx_bootstrap_now_ms() >= until_ms)
                return phx_fail(message, PHX_ERR_TIMEOUT, "%.120s/lock stays locked", f->path);
            pause_ms(1);
        }
        struct stat status;
        if (f->lock >= 0 && fstat(f->lock, &status) == 0 && status.st_nlink > 0)
            return 0;
        lock_drop(f);
        (void)close(f->directory);
        f->directory = -1;
        if (phx_bootstrap_now_ms() >= until_ms)
            return phx_fail(message, PHX_ERR_TIMEOUT, "%.120s comes and goes", f->path);
    }
}

// --- joining ------------------------------------------------------------------------------------

static int job_take(struct phx_bootstrap *b, struct phx_message *message)
{
    struct phx_bootstrap_file *f = b->file;
    if (!anyone_lives(b)) {
        clean(f);
        struct head mine = {.kind = KIND_JOB, .number = b->ranks};
        randombytes_buf(&mine.job, sizeof mine.job);
        int file = open_at(f, ".new-job", O_RDWR | O_CREAT | O_TRUNC);
        bool is_written = file >= 0 && record_write(f, file, &mine, NULL, 0);
        if (file >= 0)
            (void)close(file);
        if (!is_written || renameat(f->directory, ".new-job", f->directory, "job") != 0)
            return phx_fail(message, PHX_ERR_IO, "can't write %.120s/job: %s", f->path,
                            strerror(errno));
    }
    struct head h = {0, 0, 0, 0, 0};
    int file = open_at(f, "job", O_RDONLY);
    bool is_read = file >= 0 && record_read(f, file, &h, 0, 0, 0, NULL) && h.kind == KIND_JOB;
    if (file >= 0)
        (void)close(file);
    if (!is_read)
        return phx_fail(message, PHX_ERR_PROTECTION,
                        "%.120s/job is of a job with another secret, or no job's", f->path);
    if (h.number != b->ranks)
        return phx_fail(message, PHX_ERR_MISMATCH, "the job in %.120s has %u ranks; rank %u has %u",
                        f->path, h.number, b->rank, b->ranks);
    b->job = h.job;
    return 0;
}

static bool is_open(const struct phx_bootstrap_file *f)
{
    return faccessat(f->directory, "open", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int seat_take(struct phx_bootstrap *b, struct phx_message *message)
{
    struct phx_bootstrap_file *f = b->file;
    char name[24];
    struct head old = {0, 0, 0, 0, 0};
    rank_name(name, b->rank);
    f->mine = open_at(f, name, O_RDWR | O_CREAT);
    if (f->mine < 0)
        return phx_fail(message, PHX_ERR_IO, "can't open %.120s/%s: %s", f->path, name,
                        strerror(errno));
    if (!lock_take(f->mine))
        return phx_fail(message, PHX_ERR_STATE, "rank %u is taken by a living process", b->rank);
    bool is_again = record_read(f, f->mine, &old, 0, 0, 0, NULL) && old.kind == KIND_RANK &&
                    old.job == b->job && old.rank == b->rank;
    b->incarnation = is_again ? old.number + 1 : 1;
    b->next = exchange_last(f) + 1; // after taking the lock: see phx_bootstrap_file_exchange()
    struct head h = {.kind = KIND_RANK,
                     .job = b->job,
                     .rank = b->rank,
                     .number = b->incarnation,
                     .extra = b->next};
    if (lseek(f->mine, 0, SEEK_SET) != 0 || ftruncate(f->mine, 0) != 0 ||
        !record_write(f, f->mine, &h, NULL, 0))
        return phx_fail(message, PHX_ERR_IO, "can't write %.120s/%s: %s", f->path, name,
                        strerror(errno));
    return 0;
}

// How many live, this rank included, and which.
static uint32_t living(const struct phx_bootstrap *b, uint8_t set[PHX_WIRE_RANKS_BYTES])
{
    uint32_t count = 0;
    uint32_t first;
    memset(set, 0, PHX_WIRE_RANKS_BYTES);
    for (uint32_t i = 0; i < b->ranks; i++)
        if (i == b->rank || rank_lives(b, i, &first)) {
            phx_wire_add(set, i);
            count++;
        }
    return count;
}

// All seem to be there. One that holds its file may not have said yet from which exchange on it
// takes part; it does that with the directory's lock, so that under it all have.
static int job_open(struct phx_bootstrap *b, uint64_t until_ms, struct phx_message *message)
{
    uint8_t set[PHX_WIRE_RANKS_BYTES];
    int rc = directory_lock(b->file, until_ms, message);
    if (rc != 0)
        return rc;
    if (living(b, set) == b->ranks) {
        int file = open_at(b->file, "open", O_RDWR | O_CREAT);
        if (file < 0)
            rc = phx_fail(message, PHX_ERR_IO, "can't make %.120s/open: %s", b->file->path,
                          strerror(errno));
        else
            (void)close(file);
    }
    lock_drop(b->file);
    return rc;
}

static int others_wait(struct phx_bootstrap *b, uint64_t until_ms, struct phx_message *message)
{
    for (uint32_t ms = 1;; ms = ms < LOOK_MS_MAX ? ms + 1 : ms) {
        uint8_t set[PHX_WIRE_RANKS_BYTES];
        if (is_open(b->file))
            return 0;
        if (living(b, set) == b->ranks) {
            int rc = job_open(b, until_ms, message);
            if (rc != 0 || is_open(b->file))
                return rc;
        }
        if (phx_bootstrap_now_ms() >= until_ms) {
            char names[128];
            phx_bootstrap_name_missing(names, sizeof names, set, b->ranks);
            return phx_fail(message, PHX_ERR_TIMEOUT, "not joined in time: %s", names);
        }
        pause_ms(ms);
    }
}

int phx_bootstrap_file_join(struct phx_bootstrap *b, const struct phx_bootstrap_options *o,
                            struct phx_message *message)
{
    const char *path = o->url + strlen("file://");
    if (path[0] == '\0')
        return phx_fail(message, PHX_ERR_INVALID, "url is %s; it must name a directory", o->url);
    struct phx_bootstrap_file *f = calloc(1, sizeof *f);
    if (f == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a bootstrap by files");
    f->directory = f->lock = f->mine = -1;
    (void)snprintf(f->path, sizeof f->path, "%s", path); // bounded in phx_bootstrap_join()
    phx_wire_secret_key(f->key, o->secret, o->secret_bytes);
    b->file = f;
    uint64_t until_ms = phx_bootstrap_now_ms() + b->timeout_ms;
    int rc = directory_lock(f, until_ms, message);
    if (rc == 0)
        rc = job_take(b, message);
    if (rc == 0)
        rc = seat_take(b, message);
    lock_drop(f);
    if (rc == 0)
        rc = others_wait(b, until_ms, message);
    if (rc != 0)
        phx_bootstrap_file_leave(b);
    return rc;
}

// --- exchanges ----------------------------------------------------------------------------------

static void row_name(char name[40], uint32_t number, uint32_t rank)
{
    (void)snprintf(name, 40, "row-%u-%u", number, rank);
}

static int row_write(struct phx_bootstrap *b, const uint8_t *mine, uint32_t bytes,
                     struct phx_message *message)
{
    struct phx_bootstrap_file *f = b->file;
    struct head h = {
        .kind = KIND_ROW, .job = b->job, .rank = b->rank, .number = b->next, .extra = bytes};
    char made[40];
    char name[40];
    (void)snprintf(made, sizeof made, ".new-row-%u", b->rank);
    row_name(name, b->next, b->rank);
    int file = open_at(f, made, O_RDWR | O_CREAT | O_TRUNC);
    bool is_written = file >= 0 && record_write(f, file, &h, mine, (uint64_t)bytes * b->ranks);
    if (file >= 0)
        (void)close(file);
    if (!is_written || renameat(f->directory, made, f->directory, name) != 0)
        return phx_fail(message, PHX_ERR_IO, "can't write %.120s/%s: %s", f->path, name,
                        strerror(errno));
    return 0;
}

// The row of `rank`, if it is there: 1, else 0, or an error.
static int row_read(struct phx_bootstrap *b, uint32_t rank, uint8_t *theirs, uint32_t bytes,
                    struct phx_message *message)
{
    struct phx_bootstrap_file *f = b->file;
    char name[40];
    row_name(name, b->next, rank);
    int file = open_at(f, name, O_RDONLY);
    if (file < 0)
        return 0;
    uint8_t bytes_of_head[HEAD_BYTES];
    struct head h;
    bool is_good = read_all(file, bytes_of_head, HEAD_BYTES, 0) && head_read(bytes_of_head, &h);
    int rc = 1;
    // Of a forged head, its size at most is believed.
    if (is_good && h.extra <= PHX_BOOTSTRAP_BLOB_MAX && h.extra != bytes) {
        is_good = record_read(f, file, &h, (uint64_t)h.extra * b->ranks, 0, 0, NULL);
        if (is_good)
            rc = phx_fail(message, PHX_ERR_MISMATCH,
                          "rank %u exchanges %u bytes, rank %u exchanges %u", b->rank, bytes, rank,
                          h.extra);
    } else if (is_good) {
        is_good = record_read(f, file, &h, (uint64_t)bytes * b->ranks, (uint64_t)b->rank * bytes,
                              bytes, bytes > 0 ? theirs + (size_t)rank * bytes : NULL);
    }
    (void)close(file);
    if (!is_good || h.kind != KIND_ROW || h.job != b->job || h.rank != rank || h.number != b->next)
        return phx_fail(message, PHX_ERR_CORRUPT, "%.120s/%s is not what rank %u wrote", f->path,
                        name, rank);
    return rc;
}

int phx_bootstrap_file_exchange(struct phx_bootstrap *b, const void *mine, void *theirs,
                                uint32_t bytes, uint8_t set[PHX_WIRE_RANKS_BYTES],
                                struct phx_message *message)
{
    uint8_t settled[PHX_WIRE_RANKS_BYTES] = {0};
    uint32_t count = 0;
    uint64_t until_ms = phx_bootstrap_now_ms() + b->timeout_ms;
    if (bytes > 0)
        memset(theirs, 0, (size_t)bytes * b->ranks);
    // First our row, then the look at who lives. A newcomer first takes its lock, then looks for
    // rows. So either we see that it lives, or it sees our row and begins with the next exchange.
    int rc = row_write(b, mine, bytes, message);
    for (uint32_t ms = 1; rc == 0 && count < b->ranks; ms = ms < LOOK_MS_MAX ? ms + 1 : ms) {
        for (uint32_t i = 0; rc == 0 && i < b->ranks; i++) {
            uint32_t first = 1;
            if (phx_wire_has(settled, i))
                continue;
            bool may_come = rank_lives(b, i, &first) && first <= b->next;
            int got = row_read(b, i, theirs, bytes, message);
            rc = got < 0 ? got : 0;
            if (got > 0)
                phx_wire_add(set, i);
            if (got > 0 || !may_come) {
                phx_wire_add(settled, i);
                count++;
            }
        }
        if (rc == 0 && count < b->ranks && phx_bootstrap_now_ms() >= until_ms) {
            char names[128];
            phx_bootstrap_name_missing(names, sizeof names, settled, b->ranks);
            rc = phx_fail(message, PHX_ERR_TIMEOUT, "exchange %u still waits for %s", b->next,
                          names);
        }
        if (rc == 0 && count < b->ranks)
            pause_ms(ms);
    }
    if (rc == 0 && b->next > 1) { // all who live have given to this one: they have read the last
        char name[40];
        row_name(name, b->next - 1, b->rank);
        (void)unlinkat(b->file->directory, name, 0);
    }
    return rc;
}

void phx_bootstrap_file_leave(struct phx_bootstrap *b)
{
    struct phx_bootstrap_file *f = b->file;
    if (f->mine >= 0 && f->lock < 0 &&
        directory_lock(f, phx_bootstrap_now_ms() + PHX_BOOTSTRAP_ASK_MS, NULL) == 0) {
        (void)close(f->mine);
        f->mine = -1;
        if (!anyone_lives(b)) {
            clean(f);
            (void)unlinkat(f->directory, "lock", 0);
            (void)rmdir(f->path); // fails if somebody came, or put something there
        }
    }
    if (f->mine >= 0)
        (void)close(f->mine);
    lock_drop(f);
    if (f->directory >= 0)
        (void)close(f->directory);
    sodium_memzero(f->key, sizeof f->key);
    free(f);
    b->file = NULL;
}
