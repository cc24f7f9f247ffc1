// A program that knows nothing of the simulator: it reports what it sees. The first argument says what to do.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { QUOTE_SIZE = 0x80047307 };
#define GEN_QUOTE 0xC0187308UL
#define GET_KEY 0xC010730BUL
#define SELF_TARGET 0x82007303UL
#define CREATE_REPORT 0xC0187304UL
#define VERIFY_REPORT 0x41B07305UL
#define DETECT_DCAP 0x80047306UL
#define IS_EDMM 0x80047300UL

static void need(int condition, const char *what) {
    if (!condition) {
        printf("FAILED: %s (errno %d)\n", what, errno);
        fflush(stdout);
        _exit(99);
    }
}

static int device(void) {
    int fd = open("/dev/sgx", O_RDONLY);
    need(fd >= 0, "open /dev/sgx");
    return fd;
}

static void print_identity(const char *who) {
    struct utsname name;
    need(uname(&name) == 0, "uname");
    int fd = device();
    uint32_t size = 0;
    need(ioctl(fd, (unsigned long)QUOTE_SIZE, &size) == 0, "quote size");
    unsigned char data[64], *quote = malloc(size);
    for (int i = 0; i < 64; i++) data[i] = (unsigned char)i;
    struct { void *data; uint32_t *size; void *quote; } argument = {data, &size, quote};
    need(ioctl(fd, GEN_QUOTE, &argument) == 0, "quote");
    need(memcmp(quote + 368, data, 64) == 0, "report data");
    char line[256];
    int len = snprintf(line, sizeof line, "%s: %s %s %s quote of %u bytes with the report data\n", who, name.sysname,
                       name.release, name.machine, size);
    need(write(1, line, len) == len, "write");
    close(fd);
    free(quote);
}

static void *thread_identity(void *argument) {
    (void)argument;
    print_identity("thread");
    return NULL;
}

static void wait_for(pid_t pid) {
    int status;
    need(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "child");
}

static void spawn(char *mode) {
    char *arguments[] = {"/bin/probe", mode, NULL};
    pid_t pid;
    errno = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ);
    need(errno == 0, "posix_spawn");
    wait_for(pid);
}

static void run_thread(void) {
    pthread_t thread;
    errno = pthread_create(&thread, NULL, thread_identity, NULL);
    need(errno == 0, "pthread_create");
    pthread_join(thread, NULL);
}

static void inherit(void) {
    print_identity("self");
    run_thread();
    pid_t pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) {
        print_identity("fork");
        char *arguments[] = {"/bin/probe", "exec", NULL};
        execv(arguments[0], arguments);
        _exit(1);
    }
    wait_for(pid);
    spawn("spawn");
}

// Every ioctl that must fail: EINVAL, and the page stays as it was.
static void refusals(void) {
    int fd = device();
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *locked = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(page, 0xaa, 4096);
    uint32_t small = 100, large = 65536;
    unsigned char data[64] = {0};
    struct { void *data; uint32_t *size; void *quote; } quotes[] = {
        {NULL, &large, page}, {data, NULL, page}, {data, &large, NULL},
        {data, &small, page}, {(void *)16, &large, page}, {data, &large, locked},
    };
    for (unsigned i = 0; i < sizeof quotes / sizeof *quotes; i++) {
        errno = 0;
        need(ioctl(fd, GEN_QUOTE, &quotes[i]) == -1 && errno == EINVAL, "bad quote call");
    }
    unsigned long numbers[] = {IS_EDMM, 0x80047301, SELF_TARGET, CREATE_REPORT, VERIFY_REPORT,
                               DETECT_DCAP, QUOTE_SIZE, GEN_QUOTE, GET_KEY};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        need(ioctl(fd, numbers[i] & 0xffffffff, NULL) == -1 && errno == EINVAL, "null pointer");
        need(ioctl(fd, numbers[i] & 0xffffffff, (void *)16) == -1 && errno == EINVAL, "bad pointer");
    }
    need(ioctl(fd, 0x80047363UL, page) == -1 && errno == EINVAL, "unknown ioctl");
    need(ioctl(fd, VERIFY_REPORT, page) == -1 && errno == EINVAL, "foreign report");
    struct { void *request, *key; } key = {page, page};
    need(ioctl(fd, GET_KEY, &key) == -1 && errno == EINVAL, "foreign key request");
    for (int i = 0; i < 4096; i++) need(page[i] == 0xaa, "untouched memory");
    // Not our device: the kernel answers.
    int null = open("/dev/null", O_RDONLY);
    need(ioctl(null, DETECT_DCAP, page) == -1 && errno == ENOTTY, "another device");
    need(ioctl(-1, DETECT_DCAP, page) == -1 && errno == EBADF, "no descriptor");
    puts("refused");
}

static void seal_key(int policy) {
    unsigned char request[512] = {4, 0, (unsigned char)policy};
    uint64_t flags = 0xFF0000000000000BULL;
    memcpy(request + 24, &flags, 8);
    unsigned char key[16];
    struct { void *request, *key; } argument = {request, key};
    need(ioctl(device(), GET_KEY, &argument) == 0, "key");
    for (int i = 0; i < 16; i++) printf("%02x", key[i]);
    puts("");
}

static void strict(void) {
    need(fork() == -1 && errno == ENOSYS, "fork");
    need(syscall(SYS_fork) == -1 && errno == ENOSYS, "raw fork");
    need(syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS, "clone3");
    need(syscall(SYS_statx, 0, "", 0, 0, NULL) == -1 && errno == ENOSYS, "statx");
    need(syscall(SYS_getrusage, 0, NULL) == -1 && errno == ENOSYS, "getrusage");
    need(syscall(SYS_memfd_create, "x", 0) == -1 && errno == ENOSYS, "memfd_create");
    need(syscall(SYS_pidfd_open, getpid(), 0) == -1 && errno == EINVAL, "pidfd_open");
    need(syscall(1000) == -1 && errno == EINVAL, "unknown call");
    char byte;
    need(syscall(SYS_getrandom, &byte, 1, 4) == -1 && errno == EINVAL, "GRND_INSECURE");
    need(syscall(SYS_getrandom, &byte, 1, 1) == 1, "GRND_NONBLOCK");
    need(madvise(NULL, 0, MADV_WIPEONFORK) == -1 && errno == EINVAL, "MADV_WIPEONFORK");
    need(prctl(PR_SET_DUMPABLE, 0) == -1 && errno == EINVAL, "PR_SET_DUMPABLE");
    need(prctl(PR_SET_NAME, "probe") == 0, "PR_SET_NAME");
    need(fcntl(0, F_ADD_SEALS, 0) == -1 && errno == EINVAL, "F_ADD_SEALS");
    need(fcntl(1, F_GETFD) >= 0, "F_GETFD");
    int word = 0;
    need(syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE, 1, 0, &word, 0) == -1 && errno == ENOSYS, "futex");
    run_thread();
    spawn("hello");
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/bin/probe", "probe", "hello", (char *)NULL);
        _exit(1);
    }
    wait_for(pid);
    puts("strict");
}

// Ends callers at every moment of their calls, then goes, leaving others behind.
static void die_often(void) {
    for (int round = 0; round < 200; round++) {
        pid_t pid = fork();
        need(pid >= 0, "fork");
        if (pid == 0) {
            struct utsname name;
            int fd = device();
            uint32_t size;
            for (;;) {
                uname(&name);
                ioctl(fd, (unsigned long)QUOTE_SIZE, &size);
            }
        }
        usleep(round * 10);
        kill(pid, SIGKILL);
        if (round % 2) waitpid(pid, NULL, 0);
    }
    if (fork() == 0) {
        for (;;) {
            struct utsname name;
            uname(&name);
        }
    }
    puts("survived");
}

// execve with so many bytes of arguments and environment that the argument area is filled to `bytes`.
static void fill(long bytes) {
    static char *arguments[] = {"/bin/probe", "hello", NULL};
    // Three strings, a table of three entries, and the fixed part.
    long used = 304 + 8 * 3 + (long)strlen(arguments[0]) + 1 + (long)strlen(arguments[1]) + 1;
    long len = bytes - used - 1;
    char *filler = malloc(len + 1);
    memset(filler, 'x', len);
    filler[0] = 'X';
    filler[1] = '=';
    filler[len] = 0;
    char *environment[] = {filler, NULL};
    execve(arguments[0], arguments, environment);
    printf("execve: errno %d\n", errno);
}

static void try_exec(char *path) {
    char *arguments[] = {path, "hello", NULL};
    execve(path, arguments, environ);
    printf("execve: errno %d\n", errno);
}

int main(int count, char **arguments) {
    char *mode = count > 1 ? arguments[1] : "identity";
    char *more = count > 2 ? arguments[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(mode, "identity") || !strcmp(mode, "exec") || !strcmp(mode, "spawn")) print_identity(mode);
    else if (!strcmp(mode, "inherit")) inherit();
    else if (!strcmp(mode, "refusals")) refusals();
    else if (!strcmp(mode, "seal-key")) seal_key(atoi(more));
    else if (!strcmp(mode, "strict")) strict();
    else if (!strcmp(mode, "die-often")) die_often();
    else if (!strcmp(mode, "fill")) fill(atol(more));
    else if (!strcmp(mode, "try-exec")) try_exec(more);
    else if (!strcmp(mode, "hello")) puts("hello");
    else if (!strcmp(mode, "exit")) _exit(atoi(more));
    else if (!strcmp(mode, "signal")) raise(atoi(more));
    else if (!strcmp(mode, "environment")) for (char **entry = environ; *entry; entry++) puts(*entry);
    else if (!strcmp(mode, "arguments")) for (int i = 0; i < count; i++) puts(arguments[i]);
    else if (!strcmp(mode, "quote")) {
        uint32_t size = 0;
        int fd = device();
        int driver = -1;
        ioctl(fd, DETECT_DCAP, &driver);
        int result = ioctl(fd, (unsigned long)QUOTE_SIZE, &size);
        printf("driver %d quote %s\n", driver, result == 0 ? "possible" : errno == EINVAL ? "EINVAL" : "other");
    } else if (!strcmp(mode, "write-quote")) {
        unsigned char data[64] = {1, 2, 3}, quote[16384];
        uint32_t size = sizeof quote;
        int fd = device();
        struct { void *data; uint32_t *size; void *quote; } argument = {data, &size, quote};
        need(ioctl(fd, (unsigned long)QUOTE_SIZE, &size) == 0 && ioctl(fd, GEN_QUOTE, &argument) == 0, "quote");
        for (uint32_t i = 0; i < size; i++) printf("%02x", quote[i]);
        puts("");
    } else if (!strcmp(mode, "append")) {
        int fd = open(more, O_WRONLY | O_CREAT | O_APPEND, 0644);
        need(fd >= 0 && write(fd, "x", 1) == 1, "append");
        printf("%ld bytes\n", (long)lseek(fd, 0, SEEK_END));
    } else if (!strcmp(mode, "files")) {
        struct stat info;
        char *paths[] = {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/arandom", "/dev/sgx", "/dev/shm",
                         "/etc/hosts", "/tmp", "/host"};
        for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++)
            printf("%s %s\n", paths[i], stat(paths[i], &info) == 0 ? "yes" : "no");
        char here[64];
        printf("in %s as %d\n", getcwd(here, sizeof here), (int)getuid());
    } else if (!strcmp(mode, "linger")) {
        pid_t pid = fork();
        puts("lingering");
        (void)pid;
        for (;;) pause();
    } else if (!strcmp(mode, "limits")) {
        int resources[] = {RLIMIT_STACK, RLIMIT_DATA, RLIMIT_AS};
        struct rlimit limit, old;
        for (int i = 0; i < 3; i++) {
            need(getrlimit(resources[i], &limit) == 0, "getrlimit");
            printf("%lu MB\n", (unsigned long)limit.rlim_cur >> 20);
        }
        // The stack may grow only when the address space has room for it.
        getrlimit(RLIMIT_STACK, &limit);
        limit.rlim_cur = 512 << 20;
        need(setrlimit(RLIMIT_STACK, &limit) == -1 && errno == EINVAL, "stack first");
        struct rlimit room = {1024 << 20, 1024 << 20};
        need(prlimit(0, RLIMIT_AS, &room, &old) == 0 && old.rlim_cur == 292UL << 20, "address space");
        need(setrlimit(RLIMIT_STACK, &limit) == 0, "then stack");
        fflush(stdout);
        char *again[] = {"/bin/probe", "new-limits", NULL};
        execv(again[0], again);
    } else if (!strcmp(mode, "new-limits")) {
        struct rlimit stack, space;
        getrlimit(RLIMIT_STACK, &stack);
        getrlimit(RLIMIT_AS, &space);
        printf("%lu MB of %lu MB\n", (unsigned long)stack.rlim_cur >> 20, (unsigned long)space.rlim_cur >> 20);
    } else need(0, "known mode");
    return 0;
}
