/* Loaded into the premain by LD_PRELOAD, so that it sees Occlum: uname, /dev/sgx and its quote ioctls. The "quote" is
 * the report data followed by filler. Before the program is replaced, its status is written to $OCCLUM_STATUS and its
 * writable memory to $OCCLUM_STATUS.memory.
 *
 * With $OCCLUM_INIT, a directory, the program is in the init stage: it sees itself as /bin/init, finds /uuid and
 * /etc/image_config.json in that directory, and its call to mount the root is written to the file "mount" there and fails
 * with the number in $OCCLUM_MOUNT_ERRNO. Its memory is written to $OCCLUM_STATUS.memory at its end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static char status_path[4096], init_directory[4096];

__attribute__((constructor)) static void remember_status_path(void) {
    const char *path = getenv("OCCLUM_STATUS");
    if (path) snprintf(status_path, sizeof status_path, "%s", path);
    path = getenv("OCCLUM_INIT");
    if (path) snprintf(init_directory, sizeof init_directory, "%s", path);
}

ssize_t readlink(const char *path, char *buffer, size_t length) {
    ssize_t (*next)(const char *, char *, size_t) = dlsym(RTLD_NEXT, "readlink");
    static const char init[] = "/bin/init";
    if (!init_directory[0] || strcmp(path, "/proc/self/exe") || length < sizeof init) return next(path, buffer, length);
    memcpy(buffer, init, sizeof init - 1);
    return sizeof init - 1;
}

static long mount_root(const uint8_t *key, const uint64_t *configuration) {
    char path[sizeof init_directory + 8];
    const char *error = getenv("OCCLUM_MOUNT_ERRNO");
    snprintf(path, sizeof path, "%s/mount", init_directory);
    FILE *to = fopen(path, "w");
    if (!to) abort();
    /* No copy of what is written may stay in memory, where a test looks for it. */
    setvbuf(to, NULL, _IONBF, 0);
    for (int i = 0; key && i < 16; i++) fprintf(to, "%02x", key[i]);
    fprintf(to, "\n%d:", (int)configuration[0]);
    for (int i = 1; i < 6; i++) fprintf(to, " %d", configuration[i] != 0);
    for (char **variable = (char **)configuration[6]; *variable; variable++) fputc('\n', to), fputs(*variable, to);
    fclose(to);
    errno = error ? atoi(error) : 0;
    return error ? -1 : 0;
}

long syscall(long number, ...) {
    long (*next)(long, long, long, long, long, long, long) = dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == 363 && init_directory[0]) return mount_root((const uint8_t *)a[0], (const uint64_t *)a[1]);
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int uname(struct utsname *name) {
    memset(name, 0, sizeof *name);
    strcpy(name->sysname, "Occlum");
    strcpy(name->release, "0.1");
    strcpy(name->version, "0.1");
    strcpy(name->machine, "x86_64");
    return 0;
}

int open64(const char *path, int flags, ...) {
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    va_list arguments;
    va_start(arguments, flags);
    int mode = va_arg(arguments, int);
    va_end(arguments);
    char moved[sizeof init_directory + 32];
    if (init_directory[0] && (!strcmp(path, "/uuid") || !strcmp(path, "/etc/image_config.json"))) {
        snprintf(moved, sizeof moved, "%s%s", init_directory, strrchr(path, '/'));
        path = moved;
    }
    return next(strcmp(path, "/dev/sgx") ? path : "/dev/null", flags, mode);
}

int ioctl(int fd, unsigned long number, ...) {
    int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list arguments;
    va_start(arguments, number);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (number == 0x80047307) {
        *(uint32_t *)argument = 100;
        return 0;
    }
    if (number == 0xC0187308) {
        uint8_t **fields = argument;
        memset(fields[2], 0xab, 100);
        memcpy(fields[2], fields[0], 64);
        return 0;
    }
    return next(fd, number, argument);
}

static void dump_memory(void) {
    char path[sizeof status_path + 8], line[512], block[4096];
    snprintf(path, sizeof path, "%s.memory", status_path);
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY), to = open(path, O_WRONLY | O_CREAT, 0600);
    unsigned long from, end;
    char mode[5];
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %4s", &from, &end, mode) != 3 || mode[1] != 'w') continue;
        for (; from < end; from += sizeof block) {
            ssize_t length = pread(memory, block, sizeof block, (off_t)from);
            if (length > 0 && write(to, block, (size_t)length) != length) abort();
        }
    }
    close(memory);
    close(to);
    if (maps) fclose(maps);
}

int execve(const char *file, char *const argv[], char *const envp[]) {
    int (*next)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execve");
    FILE *from = status_path[0] ? fopen("/proc/self/status", "r") : NULL;
    FILE *to = from ? fopen(status_path, "w") : NULL;
    for (int c; to && (c = fgetc(from)) != EOF;) fputc(c, to);
    if (to) fclose(to);
    if (from) fclose(from);
    if (status_path[0]) dump_memory();
    return next(file, argv, envp);
}

__attribute__((destructor)) static void at_end(void) {
    if (init_directory[0] && status_path[0]) dump_memory();
}
