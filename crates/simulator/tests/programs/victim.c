// A program that depends on its host: it reports what it gets. The first argument says what to do.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void quotes(int count) {
    int fd = open("/dev/sgx", O_RDONLY);
    for (int i = 1; i <= count; i++) {
        unsigned char data[64] = {0}, quote[16384];
        uint32_t size = 0;
        struct { void *data; uint32_t *size; void *quote; } argument = {data, &size, quote};
        int made = ioctl(fd, 0x80047307UL, &size) == 0 && ioctl(fd, 0xC0187308UL, &argument) == 0;
        printf("quote %d: %s\n", i, made ? "made" : errno == EINVAL ? "EINVAL" : "other");
    }
}

// Days since the time that the host's clock showed when the test began.
static long days(time_t second, const char *begin) { return (long)((second - atol(begin)) / 86400); }

static void clocks(const char *begin) {
    struct timespec real, coarse, monotonic;
    struct timeval day;
    time_t second = 0;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_REALTIME_COARSE, &coarse);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    gettimeofday(&day, NULL);
    time(&second);
    printf("%ld %ld %ld %ld %ld days, monotonic %s\n", days(real.tv_sec, begin), days(coarse.tv_sec, begin),
           days(day.tv_sec, begin), days(second, begin), days(time(NULL), begin),
           monotonic.tv_sec < 100L * 365 * 86400 ? "right" : "wrong");
}

static void save(int count) {
    for (int i = 1; i <= count; i++) {
        char line[32];
        int length = snprintf(line, sizeof line, "%d\n", i);
        int fd = open("/host/new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0 || write(fd, line, length) != length) printf("write: errno %d\n", errno);
        if (fsync(fd) != 0) printf("fsync: errno %d\n", errno);
        close(fd);
        if (rename("/host/new", "/host/saved") != 0) printf("rename: errno %d\n", errno);
        printf("saved %d\n", i);
    }
}

static void load(int count) {
    for (int i = 1; i <= count; i++) {
        char text[64] = "";
        int fd = open("/host/saved", O_RDONLY);
        long length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (length < 0) printf("load %d: errno %d\n", i, errno);
        else printf("load %d: %s\n", i, strtok(text, "\n") ? text : "nothing");
        close(fd);
    }
}

static void reach(int family, const char *port) {
    // As a constant, in memory that cannot be written.
    static union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        char page[4096];
    } address __attribute__((aligned(4096)));
    if (family == AF_INET) address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else memcpy(&address.v6.sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
    address.v4.sin_family = family;
    address.v4.sin_port = htons(atoi(port));
    mprotect(&address, sizeof address, PROT_READ);
    int fd = socket(family, SOCK_STREAM, 0);
    char text[16] = "";
    socklen_t length = family == AF_INET ? sizeof address.v4 : sizeof address.v6;
    if (connect(fd, (void *)&address, length) != 0) printf("connect: errno %d\n", errno);
    else if (read(fd, text, sizeof text - 1) >= 0) printf("reached %s\n", text);
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "", *more = count > 2 ? arguments[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(mode, "quotes")) quotes(atoi(more));
    else if (!strcmp(mode, "clocks")) clocks(more);
    else if (!strcmp(mode, "clocks-again")) { clocks(more); open("/host/turn", O_RDONLY); clocks(more); }
    else if (!strcmp(mode, "exec")) execl("/bin/victim", "victim", "clocks", more, NULL);
    else if (!strcmp(mode, "save")) save(atoi(more));
    else if (!strcmp(mode, "load")) load(atoi(more));
    else if (!strcmp(mode, "reach")) reach(AF_INET, more);
    else if (!strcmp(mode, "reach-mapped")) reach(AF_INET6, more);
    else if (!strcmp(mode, "count")) {
        // In the writable layer.
        FILE *file = fopen("/root/count", "a+");
        fputc('x', file);
        printf("%ld\n", ftell(file));
    } else return 99;
    return 0;
}
