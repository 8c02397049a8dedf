"""What the process holds and does not need, given back to the system; see memory.pyi."""

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdint.h>
    #include <stdlib.h>
    #include <unistd.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static void pgpool_trim(void) { malloc_trim(0); }
    #else
    static void pgpool_trim(void) {}
    #endif

    #ifdef __linux__
    #include <link.h>
    #include <sys/auxv.h>
    #include <sys/mman.h>
    /* What may be written to, relocations too, is in segments with PF_W. The kernel's own object is none of a file. */
    static int pgpool_shed_one(struct dl_phdr_info *program, size_t size, void *page) {
        uintptr_t mask = *(uintptr_t *)page - 1;
        (void)size;
        for (int i = 0; i < program->dlpi_phnum; i++) {
            const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
            uintptr_t begin = program->dlpi_addr + segment->p_vaddr;
            uintptr_t end = (begin + segment->p_memsz + mask) & ~mask;
            begin &= ~mask;
            if (segment->p_type != PT_LOAD || segment->p_flags & PF_W)
                continue;
            if (begin <= getauxval(AT_SYSINFO_EHDR) && getauxval(AT_SYSINFO_EHDR) < end)
                continue;
            madvise((void *)begin, end - begin, MADV_DONTNEED);
        }
        return 0;
    }
    static void pgpool_shed(void) {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        dl_iterate_phdr(pgpool_shed_one, &page);
    }
    #else
    static void pgpool_shed(void) {}
    #endif
    """
    void pgpool_trim()
    void pgpool_shed()


def trim():
    with nogil:
        pgpool_trim()


def shed():
    with nogil:
        pgpool_shed()
