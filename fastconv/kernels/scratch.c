/* Scratch of the compiled kernels. Buffers given back wait for the next call that needs about as much; fresh pages cost
 * more than the work in them. The size stands in the line before a buffer. */
#define _GNU_SOURCE
#include "engine.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLOTS = 32, LINE = 64, HUGE_PAGE = 1 << 21 };

static struct {
    pthread_mutex_t lock;
    char *kept[SLOTS]; /* the one that has waited longest first */
    int count;
    i64 bytes, limit;
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER, .limit = 1 << 28};

#define SIZE_OF(buffer) (*(i64 *)(buffer))

static char *remove_kept(int i)
{
    char *const buffer = arena.kept[i];
    arena.bytes -= SIZE_OF(buffer);
    memmove(arena.kept + i, arena.kept + i + 1, (size_t)(--arena.count - i) * sizeof *arena.kept);
    return buffer;
}

void *fc_borrow(i64 bytes)
{
    char *buffer = NULL;
    pthread_mutex_lock(&arena.lock);
    int best = -1;
    for (int i = 0; i < arena.count; i++) {
        const i64 size = SIZE_OF(arena.kept[i]);
        if (size >= bytes && size <= 4 * bytes + 65536 && (best < 0 || size < SIZE_OF(arena.kept[best]))) best = i;
    }
    if (best >= 0) buffer = remove_kept(best);
    pthread_mutex_unlock(&arena.lock);
    if (!buffer) {
        const size_t unit = bytes + LINE >= HUGE_PAGE ? HUGE_PAGE : LINE;
        buffer = aligned_alloc(unit, ((size_t)bytes + LINE + unit - 1) / unit * unit);
        if (!buffer) return NULL;
#ifdef MADV_HUGEPAGE
        if (unit == HUGE_PAGE) madvise(buffer, (size_t)bytes + LINE, MADV_HUGEPAGE);
#endif
        SIZE_OF(buffer) = bytes;
    }
    return buffer + LINE;
}

/* Frees what was kept longest until the rest is within the bound. The lock is held. */
static void shrink(void)
{
    while (arena.count && (arena.bytes > arena.limit || arena.count == SLOTS)) free(remove_kept(0));
}

void fc_give_back(void *scratch)
{
    char *const buffer = (char *)scratch - LINE;
    pthread_mutex_lock(&arena.lock);
    arena.bytes += SIZE_OF(buffer);
    arena.kept[arena.count++] = buffer;
    shrink();
    pthread_mutex_unlock(&arena.lock);
}

void fc_keep_at_most(i64 bytes)
{
    pthread_mutex_lock(&arena.lock);
    arena.limit = bytes;
    shrink();
    pthread_mutex_unlock(&arena.lock);
}

i64 fc_kept(void)
{
    pthread_mutex_lock(&arena.lock);
    const i64 bytes = arena.bytes;
    pthread_mutex_unlock(&arena.lock);
    return bytes;
}

/* What another thread had borrowed is lost to the child, no more; a list that was half changed is not used. */
static void reset_after_fork(void)
{
    pthread_mutex_init(&arena.lock, NULL);
    arena.count = 0;
    arena.bytes = 0;
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, reset_after_fork); }
