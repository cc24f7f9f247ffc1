/* Asks the system below it how it keeps the rules that the simulator emulates. One line per rule on standard output:
 *
 *     RULE <tab> pass|differs|skip <tab> what was found
 *
 * It calls the system through the C library only, and prints nothing that is secret: of keys only whether two are the
 * same. With the argument "simulated" it expects what the simulator answers on purpose in another way than Occlum. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN_PATH "/bin/probe"
#define MB (1024L * 1024)
/* Occlum.json of this instance. */
#define STACK_BYTES (4 * MB)
#define HEAP_BYTES (8 * MB)
#define MMAP_BYTES (64 * MB)
/* Arguments, environment and tables have 1/256 of the stack. */
#define AREA_BYTES (STACK_BYTES / 256)

extern char **environ;
static int simulated;

static void verdict(const char *rule, const char *word, const char *format, va_list arguments) {
    printf("%s\t%s\t", rule, word);
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
}

static int rule(const char *name, int holds, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    verdict(name, holds ? "pass" : "differs", format, arguments);
    va_end(arguments);
    return holds;
}

static void skip(const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    verdict(name, "skip", format, arguments);
    va_end(arguments);
}

static const char *error_name(int error) {
    switch (error) {
    case 0: return "success";
    case EPERM: return "EPERM";
    case ENOENT: return "ENOENT";
    case ENOEXEC: return "ENOEXEC";
    case ENOMEM: return "ENOMEM";
    case EACCES: return "EACCES";
    case EFAULT: return "EFAULT";
    case EINVAL: return "EINVAL";
    case ENOSYS: return "ENOSYS";
    case EAGAIN: return "EAGAIN";
    case EBADF: return "EBADF";
    default: return strerror(error);
    }
}

/* The error of a call that returned `result`; 0 for success. */
static int error_of(long result) { return result == -1 ? errno : 0; }

static void expect_error(const char *name, long result, int expected) {
    int got = error_of(result);
    rule(name, got == expected, "expected %s, got %s", error_name(expected), error_name(got));
}

static void identity(void) {
    struct utsname system;
    uname(&system);
    rule("uname", !strcmp(system.sysname, "Occlum") && !strcmp(system.release, "0.1") && !strcmp(system.version, "0.1") &&
                      !strcmp(system.machine, "x86_64"),
         "sysname %s, release %s, version %s, machine %s", system.sysname, system.release, system.version, system.machine);
    char directory[256] = "";
    rule("working-directory", getcwd(directory, sizeof directory) && !strcmp(directory, "/"), "%s", directory);
    rule("user", getuid() == 0 && getgid() == 0 && geteuid() == 0 && getegid() == 0, "uid %d, gid %d", (int)getuid(),
         (int)getgid());
}

static int exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

/* Appends the names in `paths` for which existence is not as expected; true if there are none. */
static int as_expected(const char *const *paths, int expected, char *wrong, size_t size) {
    wrong[0] = 0;
    for (; *paths; paths++)
        if (exists(*paths) != expected && strlen(wrong) + strlen(*paths) + 2 < size) {
            strcat(wrong, " ");
            strcat(wrong, *paths);
        }
    return !wrong[0];
}

static void files(void) {
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/arandom",
                                          "/dev/sgx",  "/dev/shm",  "/dev/fd",     NULL};
    static const char *const no_devices[] = {"/dev/tty", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/ptmx", NULL};
    static const char *const processes[] = {"/proc/cpuinfo",   "/proc/meminfo",    "/proc/self/cmdline", "/proc/self/comm",
                                            "/proc/self/exe",  "/proc/self/maps",  "/proc/self/stat",    "/proc/stat",
                                            NULL};
    static const char *const no_system[] = {"/proc/sys", "/proc/self/status", "/sys", NULL};
    char wrong[512];
    int good = as_expected(devices, 1, wrong, sizeof wrong);
    rule("devices", good, "missing:%s", good ? " none" : wrong);
    good = as_expected(no_devices, 0, wrong, sizeof wrong);
    rule("devices-absent", good, "there:%s", good ? " none" : wrong);
    good = as_expected(processes, 1, wrong, sizeof wrong);
    rule("proc", good, "missing:%s", good ? " none" : wrong);
    good = as_expected(no_system, 0, wrong, sizeof wrong);
    if (simulated)
        skip("proc-absent", "the simulator shows the kernel's /proc");
    else
        rule("proc-absent", good, "there:%s", good ? " none" : wrong);
    if (simulated)
        skip("auxiliary-vector", "the simulator passes the kernel's");
    else
        rule("auxiliary-vector", !getauxval(AT_SYSINFO_EHDR) && getauxval(48),
             "vDSO %s, system call entry %s", getauxval(AT_SYSINFO_EHDR) ? "there" : "absent",
             getauxval(48) ? "there" : "absent");
    /* The host's files lie over those of the image, which has a marked one. */
    char text[4096] = "";
    int file = open("/etc/hosts", O_RDONLY);
    ssize_t length = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    rule("host-name-files", length >= 0 && !strstr(text, "of-the-image"), "/etc/hosts is %s",
         length < 0 ? "missing" : strstr(text, "of-the-image") ? "the image's" : "the host's");
    if (file >= 0)
        close(file);
}

/* Calls that are known and refused, and numbers that are not known. */
static void refused_calls(void) {
    static const struct {
        const char *name;
        long number;
        int expected, simulator;
    } calls[] = {
        {"call-statx", 332, ENOSYS, ENOSYS},          {"call-memfd_create", 319, ENOSYS, ENOSYS},
        {"call-rseq", 334, ENOSYS, ENOSYS},           {"call-membarrier", 324, ENOSYS, ENOSYS},
        {"call-setsid", 112, ENOSYS, ENOSYS},         {"call-getrusage", 98, ENOSYS, ENOSYS},
        {"call-inotify_init1", 294, ENOSYS, ENOSYS},  {"call-copy_file_range", 326, ENOSYS, ENOSYS},
        {"call-signalfd4", 289, ENOSYS, ENOSYS},      {"call-io_uring_setup", 425, EINVAL, EINVAL},
        {"call-pidfd_open", 434, EINVAL, EINVAL},     {"call-openat2", 437, EINVAL, EINVAL},
        {"call-futex_waitv", 449, EINVAL, EINVAL},    {"call-clone3", 435, EINVAL, ENOSYS},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        int got = error_of(syscall(calls[i].number, 0, 0, 0, 0, 0, 0));
        int expected = simulated ? calls[i].simulator : calls[i].expected;
        rule(calls[i].name, got == expected, "expected %s, got %s%s", error_name(expected), error_name(got),
             expected == calls[i].expected ? "" : " (Occlum: EINVAL; the simulator differs for the sake of the host's libc)");
    }
    pid_t child = syscall(57);
    if (child == 0)
        _exit(0);
    expect_error("call-fork", child, ENOSYS);
    if (child > 0)
        waitpid(child, NULL, 0);
}

static void refused_arguments(void) {
    char byte[8];
    expect_error("getrandom-insecure", syscall(318, byte, sizeof byte, 4), EINVAL);
    rule("getrandom", syscall(318, byte, sizeof byte, 0) == sizeof byte, "8 bytes asked for");
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect_error("madvise-free", madvise(page, 4096, 8), EINVAL);
    expect_error("madvise-dontneed", madvise(page, 4096, MADV_DONTNEED), 0);
    expect_error("prctl-dumpable", prctl(PR_SET_DUMPABLE, 1), EINVAL);
    expect_error("prctl-name", prctl(PR_SET_NAME, "probe"), 0);
    expect_error("fcntl-pipe-size", fcntl(1, 1032), EINVAL);
    static int word;
    expect_error("futex-wake-op", syscall(202, &word, 5, 1, 1, &word, 0), ENOSYS);
    expect_error("futex-wake", syscall(202, &word, 1, 1, 0, 0, 0), 0);
}

/* Fills `size` bytes with a value that no answer consists of. */
static unsigned char *marked(size_t size) {
    unsigned char *memory = malloc(size);
    memset(memory, 0xA5, size);
    return memory;
}

static int untouched(const unsigned char *memory, size_t size) {
    while (size && memory[size - 1] == 0xA5)
        size--;
    return !size;
}

struct dcap_request {
    const unsigned char *report_data;
    uint32_t *size;
    unsigned char *quote;
};

static void quotes(int device) {
    uint32_t size = 0;
    int error = error_of(ioctl(device, 0x80047307, &size));
    if (!rule("quote-size", !error && size >= 1 && size <= 65536, "%s, %u bytes", error_name(error), size))
        return;
    unsigned char data[64];
    for (int i = 0; i < 64; i++)
        data[i] = (unsigned char)(i * 3 + 1);
    unsigned char *quote = marked(size + 16);
    struct dcap_request request = {data, &size, quote};
    uint32_t asked = size;
    error = error_of(ioctl(device, 0xC0187308, &request));
    rule("quote", !error && quote[0] == 3 && !memcmp(quote + 368, data, 64), "%s, version %d, report data %s",
         error_name(error), quote[0], memcmp(quote + 368, data, 64) ? "differs" : "as given");
    rule("quote-writes-its-size", !error && size == asked && untouched(quote + asked, 16), "behind the buffer: %s",
         untouched(quote + asked, 16) ? "untouched" : "written");
    uint32_t small = asked - 1;
    unsigned char *other = marked(asked);
    struct dcap_request shorter = {data, &small, other};
    error = error_of(ioctl(device, 0xC0187308, &shorter));
    rule("quote-short-buffer", error == EINVAL && untouched(other, asked), "expected EINVAL, got %s; memory %s",
         error_name(error), untouched(other, asked) ? "untouched" : "written");
    struct dcap_request nothing = {NULL, &asked, other};
    error = error_of(ioctl(device, 0xC0187308, &nothing));
    rule("quote-without-data", error == EINVAL && untouched(other, asked), "expected EINVAL, got %s", error_name(error));
    free(quote);
    free(other);
}

struct report_request {
    const unsigned char *target, *data;
    unsigned char *report;
};

static void reports(int device) {
    unsigned char target[512], data[64] = {7}, report[432];
    int error = error_of(ioctl(device, 0x82007303, target));
    if (!rule("own-target", !error, "%s", error_name(error)))
        return;
    struct report_request request = {target, data, report};
    error = error_of(ioctl(device, 0xC0187304, &request));
    rule("report", !error && !memcmp(report + 320, data, 64), "%s", error_name(error));
    error = error_of(ioctl(device, 0x41B07305, report));
    rule("report-verified", !error, "expected success, got %s", error_name(error));
    report[320] ^= 1;
    error = error_of(ioctl(device, 0x41B07305, report));
    rule("report-forged", error == EINVAL, "expected EINVAL, got %s", error_name(error));
    rule("report-debug-bit", 1, "attribute DEBUG is %s", report[48] & 2 ? "set" : "not set");
}

struct key_request {
    const unsigned char *request;
    unsigned char *key;
};

static int seal_key(int device, uint16_t policy, unsigned char id, unsigned char *key) {
    unsigned char request[512] = {0};
    request[0] = 4; /* seal */
    request[2] = (unsigned char)policy;
    memset(request + 24, 0, 16);
    request[24] = 3; /* DEBUG and INIT */
    request[40] = id;
    struct key_request argument = {request, key};
    return error_of(ioctl(device, 0xC010730B, &argument));
}

static void keys(int device) {
    unsigned char first[16] = {0}, again[16] = {0}, signer[16] = {0}, other[16] = {0};
    int error = seal_key(device, 1, 9, first);
    if (!rule("seal-key", !error, "%s", error_name(error)))
        return;
    seal_key(device, 1, 9, again);
    seal_key(device, 2, 9, signer);
    seal_key(device, 1, 10, other);
    rule("seal-key-same", !memcmp(first, again, 16), "two requests give %s keys",
         memcmp(first, again, 16) ? "different" : "the same");
    rule("seal-key-policy", memcmp(first, signer, 16) != 0, "MRENCLAVE and MRSIGNER give %s keys",
         memcmp(first, signer, 16) ? "different" : "the same");
    rule("seal-key-id", memcmp(first, other, 16) != 0, "two key ids give %s keys",
         memcmp(first, other, 16) ? "different" : "the same");
}

static void device(void) {
    struct stat status;
    int found = stat("/dev/sgx", &status) == 0;
    rule("device-mode", found && (status.st_mode & 0777) == 0666, "%o", found ? status.st_mode & 0777 : 0);
    int sgx = open("/dev/sgx", O_RDWR);
    if (!rule("device-open", sgx >= 0, "%s", error_name(error_of(sgx))))
        return;
    char byte = 0;
    if (simulated) {
        skip("device-read", "an ordinary file stands for the device");
        skip("device-write", "an ordinary file stands for the device");
    } else {
        expect_error("device-read", read(sgx, &byte, 1), EPERM);
        expect_error("device-write", write(sgx, &byte, 1), EPERM);
    }
    unsigned char answer[512];
    expect_error("ioctl-unknown", ioctl(sgx, 0x80047363, answer), EINVAL);
    expect_error("ioctl-null", ioctl(sgx, 0x80047307, NULL), EINVAL);
    int detected = -1;
    int error = error_of(ioctl(sgx, 0x80047306, &detected));
    rule("dcap-driver", !error && detected == 1, "%s, %d", error_name(error), detected);
    quotes(sgx);
    reports(sgx);
    keys(sgx);
    close(sgx);
}

static void *nothing(void *argument) { return argument; }

static int spawned(const char *path, int *error) {
    char *arguments[] = {(char *)path, "exit", "3", NULL};
    pid_t child;
    *error = posix_spawn(&child, path, NULL, NULL, arguments, environ);
    int status = 0;
    if (!*error)
        waitpid(child, &status, 0);
    return status;
}

static void processes(void) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, nothing, NULL);
    rule("threads", !error, "%s", error_name(error));
    if (!error)
        pthread_join(thread, NULL);
    int status = spawned(OWN_PATH, &error);
    rule("posix_spawn", !error && WIFEXITED(status) && WEXITSTATUS(status) == 3, "%s, status %d", error_name(error), status);
    pid_t child = vfork();
    if (child == 0) {
        execl(OWN_PATH, OWN_PATH, "exit", "4", (char *)NULL);
        _exit(99);
    }
    status = 0;
    int waited = child > 0 && waitpid(child, &status, 0) == child;
    rule("vfork", waited && WIFEXITED(status) && WEXITSTATUS(status) == 4, "status %d", status);
}

static void expect_exec_error(const char *name, const char *path, int expected) {
    if (!exists(path)) {
        skip(name, "%s is not in the image", path);
        return;
    }
    /* If it were started, its output would say so and the rules below would be missing. */
    char *arguments[] = {(char *)path, NULL};
    expect_error(name, execve(path, arguments, environ), expected);
}

static void programs(void) {
    expect_exec_error("exec-static", "/bin/static-program", EINVAL);
    expect_exec_error("exec-no-program", "/bin/garbage", ENOEXEC);
    expect_exec_error("exec-no-permission", "/etc/not-executable", EACCES);
    /* The rest of the line is the interpreter's path, blanks included. */
    expect_exec_error("exec-script-argument", "/bin/script-with-argument", ENOENT);
    char *arguments[] = {"/bin/absent", NULL};
    expect_error("exec-absent", execve("/bin/absent", arguments, environ), ENOENT);
    int error;
    int status = spawned("/bin/script", &error);
    rule("exec-script", !error && WIFEXITED(status) && WEXITSTATUS(status) == 5, "%s, status %d", error_name(error), status);
}

static int limit_is(int resource, long expected) {
    struct rlimit limit;
    return getrlimit(resource, &limit) == 0 && limit.rlim_cur == (rlim_t)expected;
}

static void limits(void) {
    rule("limit-stack", limit_is(RLIMIT_STACK, STACK_BYTES), "default_stack_size");
    rule("limit-data", limit_is(RLIMIT_DATA, HEAP_BYTES), "default_heap_size");
    rule("limit-address-space", limit_is(RLIMIT_AS, STACK_BYTES + HEAP_BYTES + MMAP_BYTES), "stack + heap + mmap");
    struct rlimit large = {STACK_BYTES + HEAP_BYTES + MMAP_BYTES, STACK_BYTES + HEAP_BYTES + MMAP_BYTES};
    expect_error("limit-stack-above-address-space", setrlimit(RLIMIT_STACK, &large), EINVAL);
}

/* The environment for the last `execve`: one variable that fills the area up to `bytes`. */
static char **environment_of(size_t bytes, char *const *arguments) {
    size_t used = 304 + 2 * 8;
    for (char *const *argument = arguments; *argument; argument++)
        used += strlen(*argument) + 1 + 8;
    static char *environment[3];
    size_t length = bytes - used - (strlen("PROBE=1") + 1) - strlen("FILL=") - 1;
    char *fill = malloc(length + 6);
    memcpy(fill, "FILL=", 5);
    memset(fill + 5, 'x', length);
    fill[5 + length] = 0;
    environment[0] = "PROBE=1";
    environment[1] = fill;
    environment[2] = NULL;
    return environment;
}

static void caught(int number) { (void)number; }

/* Ends in the program that `execve` starts, which goes on with the rules. */
static void replace(void) {
    char open_file[16];
    int closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    snprintf(open_file, sizeof open_file, "%d", closed);
    signal(SIGUSR1, caught);
    signal(SIGUSR2, SIG_IGN);
    if (chdir("/etc") != 0)
        rule("exec-preparation", 0, "chdir: %s", error_name(errno));
    char *arguments[] = {"another-name", simulated ? "replaced-simulated" : "replaced", open_file, NULL};
    execve(OWN_PATH, arguments, environment_of(AREA_BYTES + 1024, arguments));
    expect_error("argument-area-exceeded", -1, ENOMEM);
    struct rlimit space = {2 * (STACK_BYTES + HEAP_BYTES + MMAP_BYTES), 2 * (STACK_BYTES + HEAP_BYTES + MMAP_BYTES)};
    struct rlimit stack = {2 * STACK_BYTES, 2 * STACK_BYTES};
    expect_error("limit-address-space-raised", setrlimit(RLIMIT_AS, &space), 0);
    expect_error("limit-stack-raised", setrlimit(RLIMIT_STACK, &stack), 0);
    execve(OWN_PATH, arguments, environment_of(2 * AREA_BYTES, arguments));
    rule("argument-area-raised", 0, "execve: %s", error_name(errno));
}

static void replaced(char **arguments) {
    const char *fill = getenv("FILL");
    rule("argument-area-raised", fill && strlen(fill) > AREA_BYTES, "an environment above the former area arrived");
    rule("exec-argv0", !strcmp(arguments[0], "another-name"), "%s", arguments[0]);
    char directory[256] = "";
    rule("exec-working-directory", getcwd(directory, sizeof directory) && !strcmp(directory, "/etc"), "%s", directory);
    rule("exec-limits", limit_is(RLIMIT_STACK, 2 * STACK_BYTES), "the stack limit is kept");
    expect_error("exec-close-on-exec", fcntl(atoi(arguments[2]), F_GETFD), EBADF);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    rule("exec-caught-signal", action.sa_handler == SIG_DFL, "is reset");
    sigaction(SIGUSR2, NULL, &action);
    rule("exec-ignored-signal", action.sa_handler == SIG_IGN, "stays ignored");
    rule("probe-complete", 1, "all rules were asked for");
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    simulated = strstr(mode, "simulated") != NULL || (count > 2 && !strcmp(arguments[2], "simulated"));
    if (!strcmp(mode, "exit"))
        return count > 2 ? atoi(arguments[2]) : 0;
    if (!strcmp(mode, "/bin/script"))
        return 5;
    if (!strcmp(mode, "abort"))
        abort();
    if (!strcmp(mode, "environment")) {
        for (char **entry = environ; *entry; entry++)
            puts(*entry);
        return 0;
    }
    if (!strncmp(mode, "replaced", 8)) {
        replaced(arguments);
        return 0;
    }
    if (strcmp(mode, "rules")) {
        fprintf(stderr, "usage: probe rules [simulated] | exit CODE | abort | environment\n");
        return 2;
    }
    identity();
    files();
    refused_calls();
    refused_arguments();
    device();
    processes();
    programs();
    limits();
    replace();
    return 1;
}
