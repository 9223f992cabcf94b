/* Makes one chosen write, fsync, rename or unlink below a folder fail, or end the process. Preloaded; see faults.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static atomic_long count;
static long chosen;
static int error, log_file, armed;

/* From here on, call number `at` (from 1) that changes something below `below` sets errno to `fail`; 0 kills the process.
 * Each call is written to `log`, as its number, name and path. */
void faults_arm(const char *below, long at, int fail, int log)
{
    snprintf(folder, sizeof folder, "%s", below);
    chosen = at;
    error = fail;
    log_file = log;
    armed = 1;
}

/* Whether SQLite makes the call: its own writes are its business. */
static int is_sqlite(const void *caller)
{
    Dl_info library;
    return dladdr(caller, &library) && library.dli_fname && strstr(library.dli_fname, "sqlite3");
}

static int fails(const char *name, int directory, const char *path, const void *caller)
{
    char full[2 * PATH_MAX] = "", link[64];
    if (!armed)
        return 0;
    if (path == NULL || (path[0] != '/' && directory != AT_FDCWD)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link, full, PATH_MAX - 1);
        full[length < 0 ? 0 : length] = 0;
    } else if (path[0] != '/' && getcwd(full, PATH_MAX) == NULL)
        return 0;
    if (path != NULL) {
        size_t length = path[0] == '/' ? 0 : strlen(full);
        snprintf(full + length, sizeof full - length, "%s%s", length ? "/" : "", path);
    }
    if (strncmp(full, folder, strlen(folder)) || is_sqlite(caller))
        return 0;
    long number = atomic_fetch_add(&count, 1) + 1;
    dprintf(log_file, "%ld %s %s\n", number, name, full + strlen(folder));
    if (number != chosen)
        return 0;
    if (error == 0)
        kill(getpid(), SIGKILL);
    errno = error;
    return 1;
}

#define WRAP(type, name, parameters, arguments, directory, path)              \
    type name parameters                                                      \
    {                                                                         \
        static type(*real) parameters;                                        \
        if (real == NULL)                                                     \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name);               \
        const void *caller = __builtin_return_address(0);                     \
        return fails(#name, directory, path, caller) ? -1 : real arguments;   \
    }

WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), fd, NULL)
WRAP(ssize_t, writev, (int fd, const struct iovec *data, int parts), (fd, data, parts), fd, NULL)
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), fd, NULL)
WRAP(ssize_t, sendfile64, (int to, int from, off_t *at, size_t size), (to, from, at, size), to, NULL)
WRAP(int, fsync, (int fd), (fd), fd, NULL)
WRAP(int, rename, (const char *from, const char *to), (from, to), AT_FDCWD, to)
WRAP(int, unlink, (const char *path), (path), AT_FDCWD, path)
WRAP(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), fd, path)
WRAP(int, rmdir, (const char *path), (path), AT_FDCWD, path)
