/* Preloaded into a pooler: of the allocations that the workers make, some fail. Which is written into the file NO_MEMORY while it runs.

   What counts is who calls: the compiled modules, in a thread other than Python's first. Source: malloc(3), dl_iterate_phdr(3). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct orders {
    int64_t at;      /* the so manieth from now on fails; 0: none */
    int64_t count;   /* so many have been made since */
} *orders;
static uintptr_t begin, end;

static int look(struct dl_phdr_info *module, size_t size, void *unused) {
    if (strstr(module->dlpi_name, "/bundle.") == NULL) return 0;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &module->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        begin = module->dlpi_addr + part->p_vaddr;
        end = begin + part->p_memsz;
    }
    return 1;
}

__attribute__((constructor)) static void start(void) {
    int fd = getenv("NO_MEMORY") ? open(getenv("NO_MEMORY"), O_RDWR | O_CLOEXEC) : -1;
    void *found = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (found != MAP_FAILED) orders = found;
}

static int fails(void *caller) {
    if (orders == NULL || __atomic_load_n(&orders->at, __ATOMIC_ACQUIRE) == 0 || gettid() == getpid()) return 0;
    if (begin == 0) dl_iterate_phdr(look, NULL);
    if ((uintptr_t)caller < begin || (uintptr_t)caller >= end) return 0;
    if (__atomic_add_fetch(&orders->count, 1, __ATOMIC_ACQ_REL) != orders->at) return 0;
    errno = ENOMEM;
    return 1;
}

/* Where there is a sanitizer (it comes behind this library), memory is the sanitizer's. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern __attribute__((weak)) void *__interceptor_malloc(size_t), *__interceptor_calloc(size_t, size_t), *__interceptor_realloc(void *, size_t);
#define ALLOCATE(name, ...) (fails(__builtin_return_address(0)) ? NULL : __interceptor_##name ? __interceptor_##name(__VA_ARGS__) : __libc_##name(__VA_ARGS__))
void *malloc(size_t n) { return ALLOCATE(malloc, n); }
void *calloc(size_t n, size_t each) { return ALLOCATE(calloc, n, each); }
void *realloc(void *old, size_t n) { return ALLOCATE(realloc, old, n); }
