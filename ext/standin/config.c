/* standin.conf: which disks there are, what ConnectEx must be given, where the other files lie. Read once; a line it
 * does not know is a complaint, so that a test with a typing error does not pass for the wrong reason. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "standin.h"

Config config;

static const char *const expectable[] = {
    "serverName", "userName", "password", "cookie", "key", "thumbPrint", "vmxSpec", "port", "nfcHostPort",
    "snapshotRef", "transportModes", "readOnly", "identity", "credType",
};

static char *directory(void) { /* the one above the library's */
    Dl_info info;
    char name[PATH_MAX], whole[PATH_MAX];
    if (!dladdr((void *)config_load, &info)) return strdup(".");
    snprintf(name, sizeof name, "%s", info.dli_fname);
    /* of the directory, not of the file: that may be a link to one library that many share */
    return realpath(dirname(name), whole) ? strdup(dirname(whole)) : strdup(".");
}

static char *beside(const char *where, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", where, name) < 0 ? NULL : path;
}

static bool take(char **fields, unsigned count) {
    const char *what = fields[0];
    if (!strcmp(what, "disk") && (count == 3 || count == 4)) {
        Disk *disk = calloc(1, sizeof *disk);
        disk->path = strdup(fields[1]);
        disk->file = strdup(fields[2]);
        disk->uuid = count == 4 ? strdup(fields[3]) : NULL;
        disk->next = config.disks;
        config.disks = disk;
        return true;
    }
    if (!strcmp(what, "expect") && count == 3) {
        for (size_t i = 0; i < sizeof expectable / sizeof *expectable; i++)
            if (!strcmp(fields[1], expectable[i])) {
                Expected *expected = calloc(1, sizeof *expected);
                expected->name = strdup(fields[1]);
                expected->value = strdup(fields[2]);
                expected->next = config.expected;
                config.expected = expected;
                return true;
            }
        return false;
    }
    if (count != 2) return false;
    if (!strcmp(what, "rules")) {
        config.loose = !strcmp(fields[1], "nbdkit");
        return config.loose || !strcmp(fields[1], "strict");
    }
    if (!strcmp(what, "threads")) return (config.threads = (unsigned)strtoul(fields[1], NULL, 10)) > 0;
    char **setting = !strcmp(what, "modes")      ? &config.modes
                     : !strcmp(what, "script")   ? &config.script
                     : !strcmp(what, "counts")   ? &config.counts
                     : !strcmp(what, "breaches") ? &config.breaches
                                                 : NULL;
    if (!setting) return false;
    free(*setting);
    *setting = strdup(fields[1]);
    return true;
}

void config_load(void) {
    char *where = directory(), *path = beside(where, "standin.conf");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    config.script = beside(where, "standin.script");
    config.counts = beside(where, "standin.counts");
    config.breaches = beside(where, "standin.breaches");
    config.modes = strdup("nbdssl:nbd");
    config.threads = cores < 2 ? 2 : cores > 4 ? 4 : (unsigned)cores;
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    unsigned number = 0, bad = 0;
    while (file && getline(&line, &room, file) >= 0) {
        char *fields[5] = {0}, *rest = line;
        unsigned count = 0;
        number++;
        line[strcspn(line, "\n")] = 0;
        if (!*line || *line == '#') continue;
        while (count < 5 && (fields[count] = strsep(&rest, "\t"))) count++;
        if (!take(fields, count) && !bad) bad = number;
    }
    if (bad) complain("standin.conf", "line %u is not understood", bad); /* it may hold a secret: only its number */
    if (file) fclose(file);
    free(line);
    free(path);
    free(where);
}

const Disk *config_disk(const char *path) {
    for (const Disk *disk = config.disks; disk; disk = disk->next)
        if (!strcmp(disk->path, path)) return disk;
    return NULL;
}

const char *config_expected(const char *name) {
    for (const Expected *expected = config.expected; expected; expected = expected->next)
        if (!strcmp(expected->name, name)) return expected->value;
    return NULL;
}
