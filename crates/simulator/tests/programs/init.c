/* A program for the init stage. The words in $LEVEL say what it does, in order; each call 363 prints its errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct configuration {
    size_t length;
    const char *upper, *lower, *entry_point, *source, *target;
    const char **environment;
};

static unsigned char key[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const char *environment[] = {"FROM_INIT=1", "OCCLUM=init", "LEVEL=init", NULL};

static void mount(const char *word, const void *with, struct configuration *configuration) {
    errno = 0;
    long result = syscall(363, with, configuration);
    printf("%s: %d\n", word, result < 0 ? errno : 0);
}

int main(int count, char **arguments) {
    struct configuration usual = {sizeof usual, 0, 0, 0, 0, 0, environment};
    static const unsigned char wrong[16];
    char *list = getenv("LEVEL");
    for (char *word = list ? strtok(strdup(list), ",") : NULL; word; word = strtok(NULL, ",")) {
        struct configuration other = usual;
        if (!strcmp(word, "key")) mount(word, key, &usual);
        else if (!strcmp(word, "none")) mount(word, NULL, &usual);
        else if (!strcmp(word, "null")) mount(word, NULL, NULL);
        else if (!strcmp(word, "wrong")) mount(word, wrong, &usual);
        else if (!strcmp(word, "short")) other.length = 48, mount(word, key, &other);
        else if (!strcmp(word, "path")) other.lower = "/tmp", mount(word, key, &other);
        else if (!strcmp(word, "entry")) other.entry_point = "/bin/other", mount(word, key, &other);
        else if (!strcmp(word, "bad-pointer")) mount(word, (void *)8, &usual);
        else if (!strcmp(word, "see")) {
            struct utsname name;
            uname(&name);
            printf("%s %d %s %s kept:%d app:%d sgx:%d\n", name.sysname, count, arguments[0], getenv("OCCLUM"),
                   !access("/kept", F_OK), !access("/bin/probe", F_OK), !access("/dev/sgx", F_OK));
        } else if (!strcmp(word, "keep")) close(open("/kept", O_WRONLY | O_CREAT, 0600));
        else if (!strcmp(word, "write")) {
            const char *places[] = {"/kept", "/tmp/x", "/dev/x", "/dev/shm/x", "/dev/null", "/dev/zero", "/proc/self/comm"};
            for (int i = 0; i < 7; i++) {
                int fd = open(places[i], O_WRONLY | O_CREAT, 0600);
                if (write(fd, "x", 1) < 0) perror(places[i]);
                close(fd);
            }
        }
        else if (!strcmp(word, "die")) raise(11);
        else if (!strncmp(word, "exit", 4)) { fflush(stdout); _exit(atoi(word + 4)); }
        fflush(stdout);
    }
    return 0;
}
