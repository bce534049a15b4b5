/* Makes things go wrong, slowly or noisily: dying, hanging, delays, log lines from several threads. Decides nothing. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "standin.h"

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sleep_until(uint64_t ns) {
    struct timespec until = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {
    }
}

void say(int level, const char *format, ...) {
    VixDiskLibGenericLogFunc function = log_functions[level];
    if (!function) return;
    bool was = in_callback;
    va_list arguments;
    va_start(arguments, format);
    in_callback = true;
    function(format, arguments);
    in_callback = was;
    va_end(arguments);
}

void act(const Action *action) {
    if (action->what & ACT_SLOW) sleep_until(now_ns() + action->slow_ns);
    if (action->what & ACT_PANIC) {
        say(2, "Panic: %s (in %s)\n", action->panic, "VixDiskLib");
        abort(); /* the callback returned, which the real library does not survive either */
    }
    if (action->what & ACT_CRASH) {
        signal(SIGSEGV, SIG_DFL); /* no handler of the client's softens it */
        raise(SIGSEGV);
        abort();
    }
    if (action->what & ACT_EXIT) _exit(0);
    while (action->what & ACT_HANG) pause();
}

enum { CHORUS = 4 };
static pthread_barrier_t chorus;

static void *sing(void *argument) {
    const Script *script = argument;
    unsigned number = 0;
    pthread_barrier_wait(&chorus);
    for (const Line *line = script->lines; line; line = line->next)
        say(line->level, "%s [%u, thread %#lx]\n", line->text, ++number, (unsigned long)pthread_self());
    return NULL;
}

void say_lines(const Script *script) {
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    pthread_t threads[CHORUS];
    if (!script->lines || pthread_mutex_trylock(&one)) return;
    pthread_barrier_init(&chorus, NULL, CHORUS);
    for (int i = 0; i < CHORUS; i++)
        if (pthread_create(&threads[i], NULL, sing, (void *)script)) abort();
    for (int i = 0; i < CHORUS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&chorus);
    pthread_mutex_unlock(&one);
}

uint64_t pace_due(const Script *script, uint64_t bytes, uint64_t now) {
    static pthread_mutex_t pace = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t link_free; /* when the wire has carried all that was queued before */
    uint64_t due = now;
    if (script->ns_per_byte > 0) {
        pthread_mutex_lock(&pace);
        if (link_free < now) link_free = now;
        link_free += (uint64_t)((double)bytes * script->ns_per_byte);
        due = link_free;
        pthread_mutex_unlock(&pace);
    }
    return due + script->latency_ns;
}
