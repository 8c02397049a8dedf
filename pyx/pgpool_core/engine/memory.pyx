"""What the process holds and does not need, given back to the system; see memory.pyi."""

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static void pgpool_trim(void) { malloc_trim(0); }
    #else
    static void pgpool_trim(void) {}
    #endif

    /* Unmap the pages of each file that is mapped privately and has not been written to: they are as they are in the file, and come
     * from the page cache when they are touched again. A mapping with as much as one page of its own (relocations, a debugger's
     * breakpoint) is left alone. Returns how many bytes of them were mapped. Source: proc(5), /proc/PID/smaps; madvise(2). */
    static uint64_t pgpool_let_go(void) {
        FILE *smaps = fopen("/proc/self/smaps", "re");
        char *line = NULL, mode[5] = "";
        size_t cap = 0;
        unsigned long begin = 0, end = 0, inode = 0, kb, mapped = 0;
        uint64_t total = 0;
        if (!smaps)
            return 0;
        while (getline(&line, &cap, smaps) > 0) {
            unsigned long from, to, node;
            char how[5];
            if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &from, &to, how, &node) == 4) {
                begin = from, end = to, inode = node, mapped = 0;
                __builtin_memcpy(mode, how, sizeof mode);
            } else if (sscanf(line, "Rss: %lu kB", &kb) == 1) {
                mapped = kb;
            } else if (sscanf(line, "Anonymous: %lu kB", &kb) == 1 && kb == 0 && mapped && inode
                       && mode[0] == 'r' && mode[1] == '-' && mode[3] == 'p'
                       && madvise((void *)begin, end - begin, MADV_DONTNEED) == 0) {
                total += mapped * 1024;
            }
        }
        free(line);
        fclose(smaps);
        return total;
    }
    """
    void pgpool_trim()
    unsigned long long pgpool_let_go()


def trim():
    with nogil:
        pgpool_trim()


def let_go():
    cdef unsigned long long total
    with nogil:
        total = pgpool_let_go()
    return total
