// Runs a program as a container's default profile would: no namespaces, no mounts.
#include <errno.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define GIVE(action) BPF_STMT(BPF_RET | BPF_K, action)
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)

int main(int count, char **arguments) {
    struct sock_filter program[] = {
        LOAD(offsetof(struct seccomp_data, nr)),
        IF(SYS_clone, 0, 3),
        LOAD(offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID, 4, 0),
        GIVE(SECCOMP_RET_ALLOW),
        IF(SYS_unshare, 2, 0),
        IF(SYS_mount, 1, 0),
        IF(SYS_pivot_root, 0, 1),
        GIVE(SECCOMP_RET_ERRNO | EPERM),
        GIVE(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    if (count < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        perror("deny_namespaces");
        return 98;
    }
    execv(arguments[1], arguments + 1);
    perror("deny_namespaces");
    return 98;
}
