/* The table of instruction sets and the thread pool. Compiled for the baseline only. */
#define _GNU_SOURCE
#include "engine.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#ifdef FC_HAVE_AVX512
extern const fc_isa fc_isa_avx512;
#endif
#ifdef FC_HAVE_AVX2
extern const fc_isa fc_isa_avx2;
#endif
extern const fc_isa fc_isa_baseline;

const fc_isa *const fc_isas[] = {
#ifdef FC_HAVE_AVX512
    &fc_isa_avx512,
#endif
#ifdef FC_HAVE_AVX2
    &fc_isa_avx2,
#endif
    &fc_isa_baseline,
    NULL,
};

int fc_isa_present(const fc_isa *isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(isa->name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("fma");
    if (!strcmp(isa->name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return 1;
}

static i64 shifted_tasks(const fc_conv *p)
{
    const i64 down = (p->h.out + p->rows - 1) / p->rows, across = (p->w.out + p->cols - 1) / p->cols;
    const i64 groups = (p->g + p->g_step - 1) / p->g_step;
    return (p->n + p->n_step - 1) / p->n_step * groups * p->d.out * down * across * ((p->ocg + p->oc_step - 1) / p->oc_step);
}

static int convolve_part(fc_conv *p, const fc_isa *isa, int algorithm, int kind, void *packed, int threads)
{
    const i64 blocks = (p->ocg + p->lanes - 1) / p->lanes, each = (p->ocg + threads - 1) / threads;
    p->packed = packed;
    p->finite = 1;
    if (fc_parallel_for(isa->pack[kind], p, p->g * blocks, threads)) return 1;
    if (shifted_tasks(p) < threads && each < p->oc_step) p->oc_step = (each + p->lanes - 1) / p->lanes * p->lanes;
    return fc_parallel_for(isa->task[algorithm][kind], p, shifted_tasks(p), threads);
}

int fc_convolve(fc_conv *conv, const fc_isa *isa, int algorithm, int kind, void *packed, i64 room, int threads)
{
    if (!room) return fc_parallel_for(isa->task[algorithm][kind], conv, shifted_tasks(conv), threads);
    const i64 item = kind ? 8 : 4, taps = conv->d.taps * conv->h.taps * conv->w.taps, unit = conv->lane_unit;
    const i64 channel = conv->icg * taps * item, group = (conv->ocg + unit - 1) / unit * unit * channel;
    i64 groups = conv->g, channels = conv->ocg; /* of a part; for every thread the same number of blocks */
    if (group <= room) {
        if (groups > room / (group ? group : 1)) groups = room / group;
    } else {
        groups = 1;
        channels = room / channel / (conv->lanes * threads) * conv->lanes * threads;
        if (!channels) channels = room / channel / conv->lanes * conv->lanes;
        if (!channels) channels = room / channel / unit * unit; /* which `room` holds at least */
    }
    int stopped = 0;
    for (i64 g = 0; g < conv->g && !stopped; g += groups)
        for (i64 o = 0; o < conv->ocg && !stopped; o += channels) {
            const i64 before = g * conv->ocg + o;
            fc_conv part = *conv;
            part.g = conv->g - g < groups ? conv->g - g : groups;
            part.ocg = conv->ocg - o < channels ? conv->ocg - o : channels;
            part.x += g * conv->icg * conv->x_stride[1];
            part.out += before * conv->out_stride[1];
            part.weights += before * conv->weight_stride[0];
            if (conv->residual) part.residual += before * conv->residual_stride[1];
            if (conv->bias) part.bias = (const char *)conv->bias + before * item;
            stopped = convolve_part(&part, isa, algorithm, kind, packed, threads);
            conv->ran = part.ran;
        }
    return stopped;
}

/* ---- thread pool ----
 * One job at a time. `state` packs what a worker must agree on in one compare-and-swap:
 * generation << 32 | open << 31 | joined << 16 | active. A worker joins only while the job is open, so
 * the caller never waits for one that is still asleep. */
enum { MAX_THREADS = 256 };
#define OPEN (1ull << 31)
#define JOINED(s) ((int)((s) >> 16 & 0x7fff))
#define ACTIVE(s) ((int)((s) & 0xffff))
#define GENERATION(s) ((s) >> 32)

static struct {
    pthread_mutex_t busy, sleep;
    pthread_cond_t wake;
    int started;
    task_fn task;
    void *context;
    i64 count;
    atomic_int threads;
    atomic_ullong state;
    atomic_llong next;
    atomic_int sleepers;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static _Thread_local int inside; /* this thread is running a task: a nested call stays serial */

static const i64 SPIN_NANOSECONDS = 50000; /* between two layers of a network; then sleep */
static const i64 CHECK_NANOSECONDS = 50000000; /* a person does not notice, and it costs nothing */

int (*fc_interrupted)(void);

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static i64 nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (i64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int interrupted(i64 *last)
{
    if (!fc_interrupted) return 0;
    const i64 now = nanoseconds();
    if (now - *last < CHECK_NANOSECONDS) return 0;
    *last = now;
    return fc_interrupted();
}

static void work(int worker)
{
    inside = 1;
    for (i64 i; (i = atomic_fetch_add(&pool.next, 1)) < pool.count;) pool.task(pool.context, i, worker);
    inside = 0;
}

/* The caller's share, which also looks for an interrupt. */
static int work_and_watch(void)
{
    i64 last = nanoseconds();
    int stopped = 0;
    inside = 1;
    for (i64 i; (i = atomic_fetch_add(&pool.next, 1)) < pool.count;) {
        pool.task(pool.context, i, 0);
        if (!stopped && interrupted(&last)) {
            stopped = 1;
            atomic_store(&pool.next, pool.count);
        }
    }
    inside = 0;
    return stopped;
}

#ifdef __linux__
/* A sleeping worker is often woken on its waker's processor and shares it for milliseconds, while another is idle. So
 * workers are kept away from the processor that the caller is on; the mask is set while they sleep, when it changes. */
static cpu_set_t away;
static pthread_t workers[MAX_THREADS];

static void keep_workers_away(void)
{
    cpu_set_t wanted;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || pthread_getaffinity_np(pthread_self(), sizeof wanted, &wanted)) return;
    CPU_CLR(here, &wanted);
    if (!CPU_COUNT(&wanted) || CPU_EQUAL(&wanted, &away)) return;
    for (int i = 0; i < pool.started; i++) pthread_setaffinity_np(workers[i], sizeof wanted, &wanted);
    away = wanted;
}
static void forget_workers(void) { CPU_ZERO(&away); }
static void remember_worker(int i, pthread_t thread) { workers[i] = thread; }
#else
static void keep_workers_away(void) {}
static void forget_workers(void) {}
static void remember_worker(int i, pthread_t thread) { (void)i, (void)thread; }
#endif

/* Wait until the generation differs from `seen`: first awake, then asleep. */
static unsigned long long await_job(unsigned long long seen)
{
    const i64 start = nanoseconds();
    unsigned long long s;
    do {
        for (int i = 0; i < 64; i++) {
            s = atomic_load(&pool.state);
            if (GENERATION(s) != seen) return s;
            relax();
        }
    } while (nanoseconds() - start < SPIN_NANOSECONDS);
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleepers, 1);
    while (GENERATION(s = atomic_load(&pool.state)) == seen) pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep);
    return s;
}

static void *worker_main(void *unused)
{
    (void)unused;
    unsigned long long seen = 0, s;
    for (;;) {
        s = await_job(seen);
        seen = GENERATION(s);
        while (GENERATION(s) == seen && s & OPEN && JOINED(s) + 1 < pool.threads) {
            if (atomic_compare_exchange_weak(&pool.state, &s, s + 0x10001)) {
                work(JOINED(s) + 1);
                atomic_fetch_sub(&pool.state, 1);
                break;
            }
        }
    }
    return NULL;
}

static void reset_after_fork(void)
{
    /* The child has none of the workers and may have copied the locks while they were held. */
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.started = 0;
    forget_workers();
    atomic_store(&pool.state, 0);
    atomic_store(&pool.sleepers, 0);
    inside = 0;
}

/* When the extension loads: a fork may come before the first call has ended. */
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, reset_after_fork); }

static void start_workers(int wanted)
{
    sigset_t all, before;
    if (pool.started >= wanted) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals belong to the caller's threads */
    while (pool.started < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker_main, NULL)) break; /* fewer threads, same result */
        pthread_detach(thread);
        remember_worker(pool.started++, thread);
        forget_workers();
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int fc_parallel_for(task_fn task, void *context, i64 count, int threads)
{
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads > count) threads = (int)count;
    if (threads < 2 || inside || pthread_mutex_trylock(&pool.busy)) {
        const int nested = inside;
        i64 last = count > 1 ? nanoseconds() : 0;
        int stopped = 0;
        inside = 1;
        for (i64 i = 0; i < count && !stopped; i++) {
            task(context, i, 0);
            stopped = i + 1 < count && interrupted(&last);
        }
        inside = nested;
        return stopped;
    }
    start_workers(threads - 1);
    pool.task = task;
    pool.context = context;
    pool.count = count;
    pool.threads = threads;
    atomic_store(&pool.next, 0);
    unsigned long long s = atomic_load(&pool.state);
    atomic_store(&pool.state, (GENERATION(s) + 1) << 32 | OPEN);
    if (atomic_load(&pool.sleepers)) {
        keep_workers_away();
        pthread_mutex_lock(&pool.sleep);
        for (int i = 1; i < threads; i++) pthread_cond_signal(&pool.wake); /* not those beyond: they would spin */
        pthread_mutex_unlock(&pool.sleep);
    }
    const int stopped = work_and_watch();
    s = atomic_fetch_and(&pool.state, ~OPEN);
    for (int spins = 0; ACTIVE(atomic_load(&pool.state)); spins++) {
        if (spins < 20000)
            relax();
        else
            sched_yield(); /* more threads than cores: the last worker may need ours */
    }
    pthread_mutex_unlock(&pool.busy);
    return stopped;
}
