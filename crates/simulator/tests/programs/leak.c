// A program that leaks on purpose: the first argument says how. The secret comes from a file of the image.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

extern char **environ;

static char secret[64];
static size_t length;

static void need(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "FAILED: %s (errno %d)\n", what, errno);
        _exit(99);
    }
}

static void put(int fd, const char *bytes, size_t count) { need(write(fd, bytes, count) == (ssize_t)count, "write"); }

// A connected socket of the host's network; nobody needs to read.
static int connected(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    need(bind(listener, (void *)&address, size) == 0 && listen(listener, 1) == 0, "listen");
    need(getsockname(listener, (void *)&address, &size) == 0, "address");
    need(connect(fd, (void *)&address, size) == 0, "connect");
    return fd;
}

static int host_file(int flags) {
    int fd = open("/host/file", flags | O_CREAT, 0644);
    need(fd >= 0, "open");
    return fd;
}

static void base64(const unsigned char *bytes, size_t count, char *text) {
    const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i + 2 < count; i += 3) {
        uint32_t bits = bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) *text++ = alphabet[bits >> shift & 63];
    }
    *text = 0;
}

static void *write_in_thread(void *unused) {
    (void)unused;
    put(1, secret, length);
    return NULL;
}

static int sender;

static void *send_alone(void *main_thread) {
    need(pthread_join(*(pthread_t *)main_thread, NULL) == 0, "join");
    need(send(sender, secret, length, 0) == (ssize_t)length, "send");
    puts("sent");
    fflush(stdout);
    _exit(0);
}

static void path_of(char *path, const char *before) { snprintf(path, 200, "%s%s", before, secret); }

static int is(const char *mode, const char *name) { return strcmp(mode, name) == 0; }

int main(int count, char **arguments) {
    need(count > 1, "mode");
    const char *mode = arguments[1];
    FILE *file = fopen("/etc/secret", "r");
    need(file && fgets(secret, sizeof secret, file), "secret");
    length = strlen(secret);
    fclose(file);
    char path[256], text[256] = "";
    struct iovec vector[2] = {{secret, 5}, {secret + 5, length - 5}};
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = 2};

    if (is(mode, "nothing")) puts("nothing");
    else if (is(mode, "write")) put(1, secret, length);
    else if (is(mode, "stderr")) put(2, secret, length);
    else if (is(mode, "halves")) { put(1, secret, 7); put(1, secret + 7, length - 7); }
    else if (is(mode, "bytes")) for (size_t i = 0; i < length; i++) put(1, secret + i, 1);
    else if (is(mode, "dup")) { put(1, secret, 7); int fd = dup(1); put(fd, secret + 7, length - 7); }
    else if (is(mode, "writev")) need(writev(1, vector, 2) == (ssize_t)length, "writev");
    else if (is(mode, "pwrite")) {
        int fd = host_file(O_RDWR);
        need(pwrite(fd, secret + 7, length - 7, 7) > 0 && pwrite(fd, secret, 7, 0) > 0, "pwrite");
    } else if (is(mode, "pwritev")) need(pwritev(host_file(O_RDWR), vector, 2, 100) == (ssize_t)length, "pwritev");
    else if (is(mode, "pwritev2")) need(pwritev2(host_file(O_RDWR), vector, 2, 100, 0) == (ssize_t)length, "pwritev2");
    else if (is(mode, "send")) need(send(connected(), secret, length, 0) == (ssize_t)length, "send");
    else if (is(mode, "sendmsg")) need(sendmsg(connected(), &message, 0) == (ssize_t)length, "sendmsg");
    else if (is(mode, "sendmmsg")) {
        struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = vector, .msg_iovlen = 1}},
                                      {.msg_hdr = {.msg_iov = vector + 1, .msg_iovlen = 1}}};
        need(sendmmsg(connected(), messages, 2, 0) == 2, "sendmmsg");
    } else if (is(mode, "sendfile")) {
        int fd = open("/etc/secret", O_RDONLY);
        need(sendfile(connected(), fd, NULL, 1 << 20) == (ssize_t)length, "sendfile");
    } else if (is(mode, "splice")) {
        int fd = open("/etc/secret", O_RDONLY), pipes[2];
        need(pipe(pipes) == 0, "pipe");
        need(splice(fd, NULL, pipes[1], NULL, length, 0) == -1 && errno == ENOSYS, "splice");
        need(copy_file_range(fd, NULL, host_file(O_RDWR), NULL, length, 0) == -1 && errno == ENOSYS, "copy_file_range");
        need(setxattr("/host/file", "user.x", secret, length, 0) == -1 && errno == ENOSYS, "setxattr");
        need(syscall(SYS_io_setup, 1, &(aio_context_t){0}) == -1 && errno == ENOSYS, "io_setup");
        puts("nothing");
    } else if (is(mode, "map")) {
        int fd = host_file(O_RDWR);
        need(ftruncate(fd, 4096) == 0, "ftruncate");
        char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        need(map != MAP_FAILED, "mmap");
        close(fd);
        memcpy(map + 100, secret, length);
    } else if (is(mode, "map-gone")) {
        int fd = host_file(O_RDWR);
        need(ftruncate(fd, 4096) == 0, "ftruncate");
        char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        need(map != MAP_FAILED, "mmap");
        memcpy(map + 100, secret, length);
        need(truncate("/host/file", 0) == 0 && unlink("/host/file") == 0, "truncate");
    } else if (is(mode, "unmap")) {
        int fd = host_file(O_RDWR);
        need(ftruncate(fd, 4096) == 0, "ftruncate");
        char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        need(map != MAP_FAILED, "mmap");
        memcpy(map + 100, secret, length);
        need(munmap(map, 4096) == 0, "munmap");
        need(pwrite(fd, text, length, 100) == (ssize_t)length, "pwrite");
    } else if (is(mode, "map-read")) {
        // What the host wrote itself, and who cannot write to it.
        int fd = open("/host/known", O_RDONLY);
        char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        need(map != MAP_FAILED && memcmp(map, secret, length) == 0, "mmap");
        puts("nothing");
    } else if (is(mode, "name")) {
        path_of(path, "/host/");
        close(open(path, O_WRONLY | O_CREAT, 0644));
    } else if (is(mode, "relative-name")) {
        need(chdir("/host") == 0, "chdir");
        stat(secret, &(struct stat){0});
    } else if (is(mode, "mkdir")) {
        path_of(path, "/host/");
        need(mkdir(path, 0755) == 0, "mkdir");
    } else if (is(mode, "chmod")) {
        path_of(path, "/host/");
        chmod(path, 0600);
    } else if (is(mode, "rename")) {
        close(host_file(O_WRONLY));
        path_of(path, "/host/");
        need(rename("/host/file", path) == 0, "rename");
    } else if (is(mode, "symlink")) need(symlink(secret, "/host/link") == 0, "symlink");
    else if (is(mode, "execve")) {
        char *program[] = {"/host/program", secret, NULL};
        execve(program[0], program, environ);
    } else if (is(mode, "thread")) {
        pthread_t thread;
        need(pthread_create(&thread, NULL, write_in_thread, NULL) == 0, "thread");
        pthread_join(thread, NULL);
    } else if (is(mode, "hex")) {
        for (size_t i = 0; i < length; i++) snprintf(text + 2 * i, 3, "%02X", (unsigned char)secret[i]);
        puts(text);
    } else if (is(mode, "base64")) {
        snprintf(path, sizeof path, "xy%sz", secret);
        base64((unsigned char *)path, strlen(path), text);
        puts(text);
    } else if (is(mode, "pem")) {
        snprintf(path, sizeof path, "0123456789abcdefghijklmnopqrstuvwxyz%s01234567890123456789", secret);
        base64((unsigned char *)path, strlen(path), text);
        printf("-----BEGIN SECRET-----\n%.64s\n%s\n-----END SECRET-----\n", text, text + 64);
    } else if (is(mode, "alone")) {
        // The first thread has ended, and with it the process's own table of descriptors.
        static pthread_t main_thread;
        pthread_t thread;
        main_thread = pthread_self();
        sender = connected();
        need(pthread_create(&thread, NULL, send_alone, &main_thread) == 0, "thread");
        syscall(SYS_exit, 0);
    } else if (is(mode, "cut")) {
        int fd = host_file(O_RDWR);
        need(pwrite(fd, secret + 9, length - 9, 9) == (ssize_t)length - 9, "pwrite");
        need(pwrite(fd, secret, 9, 0) == 9, "pwrite");
        need(ftruncate(fd, 0) == 0, "ftruncate");
    } else if (is(mode, "cut-by-name")) {
        int fd = host_file(O_RDWR);
        need(pwrite(fd, secret + 9, length - 9, 9) == (ssize_t)length - 9, "pwrite");
        need(pwrite(fd, secret, 9, 0) == 9, "pwrite");
        need(open("/host/file", O_WRONLY | O_TRUNC) >= 0, "open");
    } else if (is(mode, "many-files")) {
        // Redirections of a shell: the first descriptor is closed before it is written to, the second by dup2.
        int kept = dup(1);
        for (int i = 0; i < 300; i++) {
            snprintf(path, sizeof path, "/host/%d", i);
            int fd = open(path, O_WRONLY | O_CREAT, 0644);
            need(fd >= 0 && dup2(fd, 1) == 1 && close(fd) == 0, "redirection");
            need(pwrite(1, secret + 9, length - 9, 9) == (ssize_t)length - 9, "pwrite");
            need(pwrite(1, secret, 9, 0) == 9, "pwrite");
        }
        dup2(kept, 1);
    } else if (is(mode, "sendfile-fifo")) {
        // To open it for reading only waits for a writer.
        int fd = open("/host/fifo", O_RDONLY | O_NONBLOCK);
        need(fd >= 0, "open");
        sendfile(connected(), fd, NULL, 100);
        puts("nothing");
    } else if (is(mode, "inside")) {
        // None of this leaves: the writable layer, a pipe, a socket of the machine, shared memory.
        path_of(path, "/tmp/");
        int fd = open(path, O_RDWR | O_CREAT, 0644), pair[2], pipes[2];
        need(fd >= 0 && pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "inside");
        put(fd, secret, length);
        put(pipes[1], secret, length);
        put(pair[0], secret, length);
        char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        memcpy(map, secret, length);
        int shared = open("/dev/shm/x", O_RDWR | O_CREAT, 0644);
        put(shared, secret, length);
        put(open("/dev/null", O_WRONLY), secret, length);
        puts("nothing");
    } else need(0, "known mode");
    fflush(stdout);
    return 0;
}
