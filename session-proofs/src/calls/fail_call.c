/* Runs a command and fails one system call of its process tree; or lists the calls that could fail.
 *
 *   fail_call -d FOLDER -x PROGRAM -l SECONDS -r REPORT [-t | -f FAMILY -p PATH -n COUNT -e ERROR] -- COMMAND ARG...
 *
 * A seccomp filter with user notification: it also sees the calls that a program makes without libc (rustix, the
 * standard library), which a preloaded library does not. The filter is inherited, so its end is the end of the last
 * process of the tree: that is how a process that was left running is noticed.
 *
 * -d  the folder of the case: its files count, and those of /proc, /sys and /etc/machine-id
 * -x  only processes that run a program of this name   -l  time until the tree is killed and reported as left running
 * -t  lists each call in the report: FAMILY, tab, PATH. In paths the folder is left out, an id is ID, a number is N.
 * -f -p -n  the call to fail: the COUNT-th of this family and path, counted over all processes
 * -e  an errno by name; SHORT (half of a read or write is done); LATE (done, then EIO); KILL (the process is killed, the
 *     call not done); LIE (each flush of a path with this text, or of a directory for `DIR`, succeeds without being done:
 *     -n and -f are not used); LATEKILL (done, then killed); TORNKILL (half of a write is done, then killed)
 * The report ends with `left NAME` for each process that was killed, and `over CODE`.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* Where a call names its file: a descriptor, a path, a path below a descriptor; or it is a call of a process. */
enum how { FD, PATH, AT, PROCESS };
static const struct call { int nr; const char *family; enum how how; } calls[] = {
    {SYS_fsync, "fsync", FD}, {SYS_fdatasync, "fdatasync", FD}, {SYS_sync_file_range, "sync_file_range", FD},
    {SYS_write, "write", FD}, {SYS_writev, "writev", FD}, {SYS_pwrite64, "pwrite", FD}, {SYS_pwritev, "pwritev", FD},
    {SYS_read, "read", FD}, {SYS_pread64, "pread", FD}, {SYS_preadv, "preadv", FD}, {SYS_readv, "readv", FD},
    {SYS_lseek, "lseek", FD}, {SYS_copy_file_range, "copy_file_range", FD},
#ifdef SYS_open
    {SYS_open, "open", PATH}, {SYS_rename, "rename", PATH}, {SYS_link, "link", PATH}, {SYS_unlink, "unlink", PATH},
    {SYS_rmdir, "unlink", PATH}, {SYS_mkdir, "mkdir", PATH}, {SYS_chmod, "chmod", PATH}, {SYS_stat, "stat", PATH},
    {SYS_lstat, "stat", PATH}, {SYS_access, "stat", PATH}, {SYS_readlink, "readlink", PATH}, {SYS_symlink, "link", PATH},
    {SYS_fork, "fork", PROCESS}, {SYS_vfork, "fork", PROCESS},
#endif
    {SYS_openat, "open", AT}, {SYS_openat2, "open", AT}, {SYS_renameat, "rename", AT}, {SYS_renameat2, "rename", AT},
    {SYS_linkat, "link", AT}, {SYS_unlinkat, "unlink", AT}, {SYS_mkdirat, "mkdir", AT}, {SYS_fchmodat, "chmod", AT},
    {SYS_newfstatat, "stat", AT}, {SYS_statx, "stat", AT}, {SYS_readlinkat, "readlink", AT}, {SYS_faccessat, "stat", AT},
    {SYS_faccessat2, "stat", AT}, {SYS_fchmod, "chmod", FD}, {SYS_fstat, "stat", FD}, {SYS_fstatfs, "statfs", FD},
    {SYS_statfs, "statfs", PATH}, {SYS_getdents64, "getdents", FD}, {SYS_ftruncate, "ftruncate", FD},
    {SYS_fallocate, "fallocate", FD}, {SYS_flock, "flock", FD}, {SYS_fcntl, "fcntl", FD}, {SYS_mmap, "mmap", PROCESS},
    {SYS_clone, "fork", PROCESS}, {SYS_clone3, "fork", PROCESS}, {SYS_execve, "exec", PATH}, {SYS_pipe2, "pipe", PROCESS},
    {SYS_socket, "socket", PROCESS}, {SYS_socketpair, "socket", PROCESS}, {SYS_bind, "bind", PROCESS},
    {SYS_listen, "listen", PROCESS}, {SYS_connect, "connect", PROCESS}, {SYS_accept4, "accept", PROCESS},
    {SYS_kill, "kill", PROCESS}, {SYS_pidfd_send_signal, "kill", PROCESS}, {SYS_pidfd_open, "pidfd_open", PROCESS},
    {SYS_setsid, "setsid", PROCESS}, {SYS_setpgid, "setpgid", PROCESS}, {SYS_prctl, "prctl", PROCESS},
    {SYS_epoll_create1, "epoll_create", PROCESS}, {SYS_eventfd2, "eventfd", PROCESS},
    {SYS_inotify_init1, "inotify", PROCESS}, {SYS_inotify_add_watch, "inotify", PROCESS},
};
#define CALLS (int)(sizeof calls / sizeof *calls)

static const struct { const char *name; int number; } errors[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR}, {"EACCES", EACCES}, {"EMFILE", EMFILE},
    {"ENFILE", ENFILE}, {"EROFS", EROFS}, {"ENOLCK", ENOLCK}, {"EINVAL", EINVAL}, {"EPERM", EPERM}, {"EAGAIN", EAGAIN},
    {"ENOMEM", ENOMEM}, {"ECONNREFUSED", ECONNREFUSED},
};

static const char *folder = "", *program = "", *family = "", *path_wanted = "", *error_name = "EIO";
static long wanted, seen;
static int tracing;
static FILE *report;

static int error_number(const char *name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, name)) return errors[i].number;
    return EIO;
}

static ssize_t peek(pid_t pid, unsigned long at, void *out, size_t size) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/mem", pid);
    int mem = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t got = mem < 0 ? -1 : pread(mem, out, size, at);
    if (mem >= 0) close(mem);
    return got;
}

static void peek_text(pid_t pid, unsigned long at, char *out, size_t size) {
    size_t done = 0;
    out[0] = 0;
    while (at && done + 1 < size) { /* page by page: the next one may not be mapped */
        size_t part = 4096 - (at + done) % 4096;
        if (part > size - 1 - done) part = size - 1 - done;
        ssize_t got = peek(pid, at + done, out + done, part);
        if (got <= 0) break;
        out[done + got] = 0;
        if (memchr(out + done, 0, got)) return;
        done += got;
    }
    out[done < size ? done : size - 1] = 0;
}

static void link_of(const char *name, char *out, size_t size) {
    ssize_t got = readlink(name, out, size - 1);
    out[got > 0 ? got : 0] = 0;
}

static void path_of(pid_t pid, int fd, char *out, size_t size) {
    char name[64];
    if (fd == AT_FDCWD) snprintf(name, sizeof name, "/proc/%d/cwd", pid);
    else snprintf(name, sizeof name, "/proc/%d/fd/%d", pid, fd);
    link_of(name, out, size);
}

static void path_at(pid_t pid, int fd, unsigned long text, char *out, size_t size) {
    char name[4096], base[4096] = "";
    peek_text(pid, text, name, sizeof name);
    if (name[0] != '/') path_of(pid, fd, base, sizeof base);
    snprintf(out, size, "%s%s%s", base, base[0] && name[0] ? "/" : "", name);
}

static pid_t process_of(pid_t thread) {
    char name[64], line[256];
    int process = thread;
    snprintf(name, sizeof name, "/proc/%d/status", thread);
    FILE *file = fopen(name, "re");
    while (file && fgets(line, sizeof line, file)) if (sscanf(line, "Tgid: %d", &process) == 1) break;
    if (file) fclose(file);
    return process;
}

/* Hexadecimal words become ID, other numbers N: they differ from run to run. */
static void normalise(const char *in, char *out, size_t size) {
    size_t at = 0;
    while (*in && at + 3 < size) {
        size_t hex = strspn(in, "0123456789abcdefABCDEF-"), digits = strspn(in, "0123456789");
        if (hex >= 8 && digits < hex) { out[at++] = 'I'; out[at++] = 'D'; in += hex; }
        else if (digits) { out[at++] = 'N'; in += digits; }
        else out[at++] = *in++;
    }
    out[at] = 0;
}

/* Finds the file of a call. Returns 0 if the call is not one of those that may fail. */
static int identify(const struct call *call, struct seccomp_notif *n, const char **kind, char *path, size_t size) {
    unsigned long *v = (unsigned long *)n->data.args;
    char name[64], exe[4096], raw[8192] = "";
    snprintf(name, sizeof name, "/proc/%d/exe", n->pid);
    link_of(name, exe, sizeof exe);
    size_t a = strlen(exe), b = strlen(program);
    if (a < b || strcmp(exe + a - b, program)) return 0;
    *kind = call->family;
    if (call->how == FD) path_of(n->pid, (int)v[0], raw, sizeof raw);
    if (call->how == PATH) path_at(n->pid, AT_FDCWD, v[0], raw, sizeof raw);
    if (call->how == AT) path_at(n->pid, (int)v[0], v[1], raw, sizeof raw);
    if (n->data.nr == SYS_flock && ((int)v[1] & LOCK_UN)) return 0; /* cannot fail */
    if (n->data.nr == SYS_fcntl) {
        struct flock lock = {0};
        if (v[1] != F_SETLK && v[1] != F_SETLKW && v[1] != F_OFD_SETLK && v[1] != F_OFD_SETLKW) return 0;
        if (peek(n->pid, v[2], &lock, sizeof lock) < 0 || lock.l_type == F_UNLCK) return 0;
    }
    if (n->data.nr == SYS_mmap) {
        if (!((int)v[3] & MAP_ANONYMOUS)) { path_of(n->pid, (int)v[4], raw, sizeof raw); if (strncmp(raw, folder, strlen(folder))) return 0; }
        else if (((int)v[3] & MAP_STACK) && v[2] == PROT_NONE) { /* of pthread_create */ *kind = "thread_stack"; }
        else return 0; /* the heap: a program without memory ends */
    }
    if (n->data.nr == SYS_clone || n->data.nr == SYS_clone3) {
        unsigned long long flags = v[0];
        if (n->data.nr == SYS_clone3) peek(n->pid, v[0], &flags, sizeof flags);
        if (flags & CLONE_THREAD) *kind = "thread";
    }
    if (n->data.nr == SYS_kill && v[1] == 0) *kind = "kill0";
    if (call->how == PROCESS && !raw[0]) {
        snprintf(name, sizeof name, "/proc/%d/comm", n->pid);
        FILE *file = fopen(name, "re");
        if (file) { if (fgets(raw, 64, file)) raw[strcspn(raw, "\n")] = 0; fclose(file); }
        char comm[64]; snprintf(comm, sizeof comm, "%.60s", raw); snprintf(raw, sizeof raw, "[%s]", comm);
        normalise(raw, path, size);
        return 1;
    }
    size_t length = strlen(folder);
    if (!strncmp(raw, folder, length)) { normalise(raw + length, path, size); return 1; }
    if (call->nr == SYS_execve) { normalise(raw, path, size); return 1; }
    if (strncmp(raw, "/proc/", 6) && strncmp(raw, "/sys/", 5) && strcmp(raw, "/etc/machine-id")) return 0;
    normalise(raw, path, size);
    return 1;
}

static int fd_of(pid_t pid, int fd) {
    int process = syscall(SYS_pidfd_open, process_of(pid), 0);
    int copy = process < 0 ? -1 : syscall(SYS_pidfd_getfd, process, fd, 0);
    if (process >= 0) close(process);
    return copy;
}

/* Does a read or write, or half of it, in the place of the process. Returns the count, or -1. */
static ssize_t transfer(struct seccomp_notif *n, int half) {
    unsigned long *v = (unsigned long *)n->data.args;
    int writes = n->data.nr == SYS_write || n->data.nr == SYS_pwrite64, reads = n->data.nr == SYS_read || n->data.nr == SYS_pread64;
    if (!writes && !reads) return -1;
    size_t length = half && v[2] > 1 ? v[2] / 2 : v[2];
    char *bytes = malloc(length + 1);
    int fd = fd_of(n->pid, (int)v[0]);
    ssize_t got = -1;
    if (writes && peek(n->pid, v[1], bytes, length) == (ssize_t)length)
        got = n->data.nr == SYS_write ? write(fd, bytes, length) : pwrite(fd, bytes, length, v[3]);
    if (reads) {
        got = n->data.nr == SYS_read ? read(fd, bytes, length) : pread(fd, bytes, length, v[3]);
        char name[64];
        snprintf(name, sizeof name, "/proc/%d/mem", n->pid);
        int mem = open(name, O_WRONLY | O_CLOEXEC);
        if (got > 0 && pwrite(mem, bytes, got, v[1]) != got) got = -1;
        if (mem >= 0) close(mem);
    }
    if (fd >= 0) close(fd);
    free(bytes);
    return got;
}

/* Does the call in the place of the process. */
static void perform(struct seccomp_notif *n) {
    unsigned long *v = (unsigned long *)n->data.args;
    char from[8192], to[8192];
    int fd;
    switch (n->data.nr) {
    case SYS_write: case SYS_pwrite64: transfer(n, 0); break;
    case SYS_fsync: fd = fd_of(n->pid, (int)v[0]); fsync(fd); close(fd); break;
    case SYS_fdatasync: fd = fd_of(n->pid, (int)v[0]); fdatasync(fd); close(fd); break;
    case SYS_ftruncate: fd = fd_of(n->pid, (int)v[0]); if (ftruncate(fd, v[1])) {} close(fd); break;
    case SYS_openat: path_at(n->pid, (int)v[0], v[1], from, sizeof from); fd = open(from, (int)v[2] | O_CLOEXEC | O_NONBLOCK, (mode_t)v[3]); if (fd >= 0) close(fd); break;
    case SYS_mkdirat: path_at(n->pid, (int)v[0], v[1], from, sizeof from); mkdir(from, (mode_t)v[2]); break;
    case SYS_unlinkat: path_at(n->pid, (int)v[0], v[1], from, sizeof from); if ((int)v[2] & AT_REMOVEDIR) rmdir(from); else unlink(from); break;
    case SYS_renameat: case SYS_renameat2:
        path_at(n->pid, (int)v[0], v[1], from, sizeof from); path_at(n->pid, (int)v[2], v[3], to, sizeof to);
        syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, n->data.nr == SYS_renameat2 ? v[4] : 0); break;
#ifdef SYS_open
    case SYS_open: path_at(n->pid, AT_FDCWD, v[0], from, sizeof from); fd = open(from, (int)v[1] | O_CLOEXEC | O_NONBLOCK, (mode_t)v[2]); if (fd >= 0) close(fd); break;
    case SYS_mkdir: path_at(n->pid, AT_FDCWD, v[0], from, sizeof from); mkdir(from, (mode_t)v[1]); break;
    case SYS_unlink: path_at(n->pid, AT_FDCWD, v[0], from, sizeof from); unlink(from); break;
    case SYS_rmdir: path_at(n->pid, AT_FDCWD, v[0], from, sizeof from); rmdir(from); break;
    case SYS_rename: path_at(n->pid, AT_FDCWD, v[0], from, sizeof from); path_at(n->pid, AT_FDCWD, v[1], to, sizeof to); rename(from, to); break;
#endif
    default: break;
    }
}

static void fail(struct seccomp_notif *n, struct seccomp_notif_resp *answer) {
    int late = !strncmp(error_name, "LATE", 4), kills = strstr(error_name, "KILL") != NULL;
    answer->flags = 0;
    answer->error = -error_number(error_name);
    if (late) perform(n);
    if (!strcmp(error_name, "TORNKILL")) transfer(n, 1);
    if (!strcmp(error_name, "SHORT")) {
        ssize_t got = transfer(n, 1);
        answer->error = 0;
        if (got >= 0) answer->val = got; else answer->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    }
    if (kills) kill(process_of(n->pid), SIGKILL);
}

static void answer_one(int listener) {
    struct seccomp_notif n;
    memset(&n, 0, sizeof n);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n)) return;
    struct seccomp_notif_resp answer = {.id = n.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    const struct call *call = NULL;
    for (int i = 0; i < CALLS && !call; i++) if (calls[i].nr == n.data.nr) call = &calls[i];
    char path[8192];
    const char *kind;
    if (call && !strcmp(error_name, "LIE")) {
        int flush = call->nr == SYS_fsync || call->nr == SYS_fdatasync || call->nr == SYS_sync_file_range;
        if (flush && identify(call, &n, &kind, path, sizeof path)) {
            char name[64];
            struct stat facts;
            snprintf(name, sizeof name, "/proc/%d/fd/%d", n.pid, (int)n.data.args[0]);
            int directory = !strcmp(path_wanted, "DIR") && !stat(name, &facts) && S_ISDIR(facts.st_mode);
            if (directory || (strcmp(path_wanted, "DIR") && strstr(path, path_wanted))) answer.flags = 0;
        }
    } else if (call && (tracing || seen < wanted) && identify(call, &n, &kind, path, sizeof path)) {
        if (tracing) fprintf(report, "%s\t%s\n", kind, path);
        else if (!strcmp(kind, family) && !strcmp(path, path_wanted) && ++seen == wanted) {
            fail(&n, &answer);
            fprintf(report, "failed\n");
        }
    }
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

static int install(void) {
    struct sock_filter f[CALLS + 8];
    int l = 0;
    f[l++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++)
        f[l++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].nr, CALLS - i, 0);
    f[l++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    f[l++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog prog = {.len = l, .filter = f};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
    return fd >= 0 ? fd : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

/* Kills all that is left of the tree: this process is its subreaper, so its members become children of it. */
static void kill_rest(pid_t child, int *status, int *over) {
    for (int round = 0; round < 200; round++) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        int found = 0;
        while (proc && (entry = readdir(proc))) {
            char name[300], line[512];
            int parent = 0;
            char state = 0;
            if (!isdigit((unsigned char)entry->d_name[0])) continue;
            snprintf(name, sizeof name, "/proc/%s/stat", entry->d_name);
            FILE *file = fopen(name, "re");
            if (!file) continue;
            if (fgets(line, sizeof line, file) && strrchr(line, ')')) sscanf(strrchr(line, ')') + 1, " %c %d", &state, &parent);
            fclose(file);
            if (parent != getpid() || state == 'Z') continue;
            if (strchr(line, '(')) fprintf(report, "left %.*s\n", (int)(strrchr(line, ')') - strchr(line, '(') - 1), strchr(line, '(') + 1);
            kill(atoi(entry->d_name), SIGKILL);
            found = 1;
        }
        if (proc) closedir(proc);
        pid_t ended;
        int how;
        while ((ended = waitpid(-1, &how, WNOHANG)) > 0) if (ended == child) { *status = how; *over = 1; }
        if (!found) return;
        usleep(2000);
    }
}

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    const char *report_name = "/dev/null";
    long limit = 30;
    int option, pair[2];
    while ((option = getopt(argc, argv, "+d:x:l:r:tf:p:n:e:")) != -1) switch (option) {
        case 'd': folder = optarg; break;
        case 'x': program = optarg; break;
        case 'l': limit = atol(optarg); break;
        case 'r': report_name = optarg; break;
        case 't': tracing = 1; break;
        case 'f': family = optarg; break;
        case 'p': path_wanted = optarg; break;
        case 'n': wanted = atol(optarg); break;
        case 'e': error_name = optarg; break;
        default: return 64;
    }
    if (optind >= argc || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return 64;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t child = fork();
    if (!child) {
        int fd = install();
        if (fd < 0) _exit(77);
        char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
        struct iovec io = {&byte, 1};
        struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET; head->cmsg_type = SCM_RIGHTS; head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
        sendmsg(pair[1], &message, 0); /* sendmsg and recvmsg are not filtered */
        recv(pair[1], &byte, 1, 0);
        execvp(argv[optind], argv + optind);
        _exit(127);
    }
    report = fopen(report_name, "we");
    if (!report) return 64;
    close(pair[1]);
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int listener = -1, status = 0, over = 0;
    if (recvmsg(pair[0], &message, MSG_CMSG_CLOEXEC) <= 0 || !CMSG_FIRSTHDR(&message)) return 77;
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    send(pair[0], "g", 1, 0);
    long end = now_ms() + limit * 1000;
    for (;;) {
        struct pollfd p = {listener, POLLIN, 0};
        int ready = poll(&p, 1, 50);
        if (p.revents & POLLIN) answer_one(listener);
        else if (p.revents & (POLLHUP | POLLERR)) break;
        pid_t ended;
        int how;
        if (ready == 0) while ((ended = waitpid(-1, &how, WNOHANG)) > 0) if (ended == child) { status = how; over = 1; }
        if (now_ms() > end) { fprintf(report, "%s\n", over ? "running" : "hang"); kill_rest(child, &status, &over); break; }
    }
    while (!over) { int how; pid_t ended = waitpid(-1, &how, 0); if (ended == child) { status = how; over = 1; } else if (ended < 0) break; }
    fprintf(report, "over %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fclose(report);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
