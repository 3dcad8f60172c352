/* The first and only process of the machine that tests/avx512_in_bochs.py boots: runs the driver on every layer in /layers,
 * compares, and says on the serial line how many are right. A layer is two files: N.in, what the driver reads, and N.out, the
 * bytes of an element (int64), the largest difference allowed (double), then the elements. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static double element(const char *data, int64_t i, int64_t item)
{
    return item == 4 ? ((const float *)data)[i] : ((const double *)data)[i];
}

static char *contents(const char *path, int64_t *bytes)
{
    FILE *const file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = ftell(file);
    rewind(file);
    char *const data = aligned_alloc(64, (*bytes / 64 + 1) * 64);
    *bytes = (int64_t)fread(data, 1, *bytes, file);
    fclose(file);
    return data;
}

static int is_right(int number, const char *expected, int64_t bytes)
{
    char path[32];
    snprintf(path, sizeof path, "/layers/%d.in", number);
    const pid_t driver = fork();
    if (!driver) {
        dup2(open(path, O_RDONLY), 0);
        dup2(open("/answer", O_CREAT | O_WRONLY | O_TRUNC, 0600), 1);
        execl("/driver", "driver", "avx512", (char *)NULL);
        _exit(9);
    }
    int status, same = 1;
    waitpid(driver, &status, 0);
    int64_t item, answered, room = bytes - 16;
    double most;
    memcpy(&item, expected, 8);
    memcpy(&most, expected + 8, 8);
    char *const answer = contents("/answer", &answered);
    if (status || answered != room + 6 || memcmp(answer + room, "avx512", 6)) same = 0;
    for (int64_t i = 0; same && i < room / item; i++) {
        const double away = element(answer, i, item) - element(expected + 16, i, item);
        same = away <= most && -away <= most; /* not, where it is NaN */
    }
    free(answer);
    return same;
}

int main(void)
{
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    const int line = open("/dev/ttyS0", O_RDWR);
    for (int to = 0; to < 3; to++) dup2(line, to);
    if (syscall(SYS_finit_module, open("/bochs_xcr0.ko", O_RDONLY), "", 0)) puts("no AVX-512: the module cannot be loaded");
    int right = 0, count = 0;
    for (char path[32]; snprintf(path, sizeof path, "/layers/%d.out", count) > 0; count++) {
        int64_t bytes;
        char *const expected = contents(path, &bytes);
        if (!expected) break;
        const int good = is_right(count, expected, bytes);
        right += good;
        if (!good) printf("\nwrong: %d\n", count);
        free(expected);
    }
    printf("\nright: %d of %d\n", right, count);
    fflush(stdout);
    sleep(1);
    reboot(RB_POWER_OFF);
}
