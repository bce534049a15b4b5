/* The script file: parsed anew whenever it changes, looked at most every 2 ms. Owns what is to go wrong and when; the
 * doing is chaos.c's and the calls'. A line that cannot be done is a complaint. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "standin.h"

enum { LOOK_NS = 2000000 };

static const Script empty;
static _Atomic(const Script *) current = &empty;
static _Atomic uint64_t looked;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;

static const struct {
    const char *name;
    unsigned what;
} actions[] = {
    {"error", ACT_ERROR}, {"fail", ACT_FAIL}, {"crash", ACT_CRASH}, {"panic", ACT_PANIC}, {"exit", ACT_EXIT},
    {"hang", ACT_HANG},   {"slow", ACT_SLOW}, {"short", ACT_SHORT}, {"wrong", ACT_WRONG}, {"nonsense", ACT_NONSENSE},
    {"null", ACT_NULL},
};

unsigned actions_of(Call call) {
    const unsigned any = ACT_CRASH | ACT_PANIC | ACT_EXIT | ACT_HANG | ACT_SLOW;
    switch (call) {
    case CALL_Exit:
    case CALL_FreeErrorText:
    case CALL_FreeConnectParams:
    case CALL_FreeInfo: return any; /* they can say nothing */
    case CALL_Read: return any | ACT_ERROR | ACT_NONSENSE | ACT_SHORT | ACT_WRONG;
    case CALL_ReadAsync: return any | ACT_ERROR | ACT_NONSENSE | ACT_SHORT | ACT_WRONG | ACT_FAIL | ACT_NULL;
    case CALL_WriteAsync: return any | ACT_ERROR | ACT_NONSENSE | ACT_FAIL;
    case CALL_QueryAllocatedBlocks:
    case CALL_GetInfo: return any | ACT_ERROR | ACT_NONSENSE | ACT_SHORT | ACT_NULL;
    case CALL_GetTransportMode: return any | ACT_ERROR | ACT_NONSENSE | ACT_WRONG | ACT_NULL;
    case CALL_ConnectEx:
    case CALL_Open:
    case CALL_AllocateConnectParams:
    case CALL_ListTransportModes:
    case CALL_GetErrorText: return any | ACT_ERROR | ACT_NONSENSE | ACT_NULL;
    default: return any | ACT_ERROR | ACT_NONSENSE;
    }
}

static bool parse_actions(char *rest, Action *action) {
    char *word;
    while ((word = strsep(&rest, " \t"))) {
        if (!*word) continue;
        unsigned what = 0;
        for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
            if (!strcmp(word, actions[i].name)) what = actions[i].what;
        if (!what) return false;
        action->what |= what;
        if (what == ACT_PANIC) { /* the rest of the line */
            action->panic = strdup(rest ? rest : "");
            return true;
        }
        if (what == ACT_ERROR || what == ACT_FAIL || what == ACT_SLOW) {
            char *number = strsep(&rest, " \t"), *end;
            if (!number || !*number) return false;
            if (what == ACT_SLOW) action->slow_ns = (uint64_t)(strtod(number, &end) * 1e6);
            else *(what == ACT_ERROR ? &action->error : &action->fail) = strtoull(number, &end, 0);
            if (*end) return false;
        }
    }
    return action->what != 0;
}

static bool parse_rule(When when, char *rest, Script *script) {
    Rule *rule = calloc(1, sizeof *rule), **last = &script->rules;
    while (*last) last = &(*last)->next;
    *last = rule; /* even a bad one, which then matches nothing */
    rule->when = when;
    char *name = strsep(&rest, " \t"), *end;
    bool named = name && !strcmp(name, "*");
    rule->call = CALLS;
    for (int call = 0; name && call < CALLS; call++)
        if (!strcmp(name, call_names[call])) rule->call = (Call)call, named = true;
    if (!named) return false;
    if (when != WHEN_EVERY) {
        char *number = strsep(&rest, " \t");
        if (!number || !*number || !rest) return false;
        rule->nth = strtoull(number, &end, 10);
        if (*end) return false;
    }
    Action action = {0};
    if (!rest || !parse_actions(rest, &action)) return false;
    if (rule->call != CALLS && (action.what & ~actions_of(rule->call))) return false;
    rule->action = action;
    return true;
}

static bool parse_line(char *line, Script *script) {
    char *rest = line, *word = strsep(&rest, " \t"), *end;
    if (!rest) return false;
    if (!strcmp(word, "at")) return parse_rule(WHEN_AT, rest, script);
    if (!strcmp(word, "from")) return parse_rule(WHEN_FROM, rest, script);
    if (!strcmp(word, "every")) return parse_rule(WHEN_EVERY, rest, script);
    if (!strcmp(word, "log")) {
        char *level = strsep(&rest, " \t");
        int number = !strcmp(level, "log") ? 0 : !strcmp(level, "warn") ? 1 : -1;
        if (number < 0 || !rest) return false;
        Line *said = calloc(1, sizeof *said);
        said->level = number;
        said->text = strdup(rest);
        said->next = script->lines;
        script->lines = said;
        return true;
    }
    double value = strtod(rest, &end);
    if (end == rest || *end || !(value >= 0)) return false;
    if (!strcmp(word, "latency")) script->latency_ns = (uint64_t)(value * 1e6);
    else if (!strcmp(word, "idle-drop")) script->idle_drop_ns = (uint64_t)(value * 1e9);
    else if (!strcmp(word, "bandwidth") && value > 0) script->ns_per_byte = 1e9 / (value * 1e6);
    else return false;
    return true;
}

static void parse(FILE *file, Script *script) {
    char *line = NULL;
    size_t room = 0;
    for (unsigned number = 1; getline(&line, &room, file) >= 0; number++) {
        char *start = line + strspn(line, " \t");
        start[strcspn(start, "\n")] = 0;
        if (!*start || *start == '#') continue;
        if (!parse_line(start, script))
            complain("standin.script", "line %u is not understood or cannot be done", number);
    }
    free(line);
}

static struct stat seen;

static bool same(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void reread(void) { /* holding `reading` */
    struct stat found = {0};
    if (stat(config.script, &found) < 0) memset(&found, 0, sizeof found);
    if (same(&found, &seen)) return;
    seen = found;
    Script *script = calloc(1, sizeof *script);
    FILE *file = fopen(config.script, "re");
    if (file) {
        parse(file, script);
        fclose(file);
    }
    script->older = (Script *)atomic_load(&current); /* reachable, so no leak; scripts change seldom */
    atomic_store(&current, script);
}

const Script *script_now(void) {
    uint64_t now = now_ns(), last = atomic_load(&looked);
    if (last && now - last < LOOK_NS) return atomic_load(&current);
    /* The first look is waited for by all; later ones are the business of one thread. */
    if (last ? pthread_mutex_trylock(&reading) : pthread_mutex_lock(&reading)) return atomic_load(&current);
    reread();
    atomic_store(&looked, now);
    pthread_mutex_unlock(&reading);
    return atomic_load(&current);
}

Action script_action(const Script *script, Call call, uint64_t nth, uint64_t total) {
    Action action = {0};
    unsigned can = actions_of(call);
    for (const Rule *rule = script->rules; rule; rule = rule->next) {
        uint64_t number = rule->call == CALLS ? total : nth;
        unsigned what = rule->action.what & can & ~action.what; /* the first rule that says it wins */
        if (!what || (rule->call != CALLS && rule->call != call)) continue;
        if (rule->when == WHEN_AT ? number != rule->nth : rule->when == WHEN_FROM && number < rule->nth) continue;
        action.what |= what;
        if (what & ACT_ERROR) action.error = rule->action.error;
        if (what & ACT_FAIL) action.fail = rule->action.fail;
        if (what & ACT_SLOW) action.slow_ns = rule->action.slow_ns;
        if (what & ACT_PANIC) action.panic = rule->action.panic;
    }
    if (action.what) count_hit(call);
    return action;
}
