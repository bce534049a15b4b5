/* Connections and their parameters: is what the client gives what it was expected to give? Never says what it gave. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

static Connection *connections; /* closed ones stay: one that is used again is known for what it is */

#ifndef STANDIN_OLD
VixDiskLibConnectParams *VixDiskLib_AllocateConnectParams(void) {
    Entered in;
    if (!enter(&in, CALL_AllocateConnectParams)) return NULL;
    act(&in.action);
    return in.action.what & (ACT_ERROR | ACT_NULL) ? NULL : give(GIVEN_PARAMS, sizeof(VixDiskLibConnectParams));
}
#endif

void VixDiskLib_FreeConnectParams(VixDiskLibConnectParams *params) {
    Entered in;
    if (!enter(&in, CALL_FreeConnectParams)) return;
    act(&in.action);
    take_back(in.call, GIVEN_PARAMS, params); /* its strings are the client's */
}

/* Compare one field; a breach names it and no value. */
static bool same(Call call, const char *name, const char *value) {
    const char *expected = config_expected(name);
    if (!expected || !strcmp(expected, value ? value : "")) return true;
    breach(call, "%s is not what was expected (%s)", name, value ? "another value was given" : "NULL was given");
    return false;
}

static bool same_number(Call call, const char *name, long value) {
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    return same(call, name, text);
}

/* Whether the parameters are usable at all; a breach otherwise. */
static bool usable(Call call, const VixDiskLibConnectParams *params) {
    if (!params) {
        breach(call, "the connection parameters are NULL");
        return false;
    }
#ifndef STANDIN_OLD
    if (!is_given(GIVEN_PARAMS, params)) {
        breach(call, "the connection parameters are not from AllocateConnectParams, or were freed");
        return false;
    }
#endif
    return true;
}

static bool login(Call call, const VixDiskLibConnectParams *params) {
    bool right = same(call, "serverName", params->serverName);
    right &= same(call, "thumbPrint", params->thumbPrint);
    right &= same(call, "vmxSpec", params->vmxSpec);
    right &= same_number(call, "port", params->port);
    right &= same_number(call, "nfcHostPort", params->nfcHostPort);
    right &= same_number(call, "credType", params->credType);
    if (params->serverName && params->specType != VIXDISKLIB_SPEC_VMX)
        breach(call, "specType is neither VMX nor one that the stand-in has"), right = false;
    switch (params->credType) {
    case VIXDISKLIB_CRED_UID:
        right &= same(call, "userName", params->creds.uid.userName);
        right &= same(call, "password", params->creds.uid.password);
        break;
    case VIXDISKLIB_CRED_SESSIONID:
        right &= same(call, "userName", params->creds.sessionId.userName);
        right &= same(call, "cookie", params->creds.sessionId.cookie);
        right &= same(call, "key", params->creds.sessionId.key);
        break;
    default:
        if (params->serverName) breach(call, "a credType that the stand-in does not have"), right = false;
    }
    return right;
}

VixError VixDiskLib_ConnectEx(const VixDiskLibConnectParams *params, char readOnly, const char *snapshotRef,
                              const char *transportModes, VixDiskLibConnection *connection) {
    Entered in;
    if (!enter(&in, CALL_ConnectEx)) return failure(VIX_E_FAIL);
    if (!connection) breach(in.call, "no place for the connection");
    if (!usable(in.call, params) || !connection) return failure(VIX_E_INVALID_ARG);
    *connection = NULL;
    bool right = login(in.call, params);
    right &= same(in.call, "snapshotRef", snapshotRef);
    right &= same(in.call, "transportModes", transportModes);
    right &= same_number(in.call, "readOnly", readOnly != 0);
    act(&in.action);
    if (in.action.what & ACT_ERROR) return failure(in.action.error);
    if (!right) return failure(E_CANNOT_CONNECT);
    if (in.action.what & ACT_NULL) return VIX_OK;
    Connection *made = calloc(1, sizeof *made);
    if (!made) return failure(VIX_E_OUT_OF_MEMORY);
    made->read_only = readOnly != 0;
    made->remote = params->serverName && *params->serverName;
    made->modes = transportModes && *transportModes ? strdup(transportModes) : NULL;
    pthread_mutex_lock(&lock);
    made->next = connections;
    connections = made;
    pthread_mutex_unlock(&lock);
    *connection = made;
    say(0, "VixDiskLib: connected, %s, %s.\n", made->remote ? "remote" : "local", made->read_only ? "read-only" : "rw");
    return VIX_OK;
}

Connection *connection_find(const void *connection) {
    Connection *found = connections;
    while (found && found != connection) found = found->next;
    return found;
}

unsigned connections_open(void) {
    unsigned count = 0;
    pthread_mutex_lock(&lock);
    for (const Connection *each = connections; each; each = each->next) count += !each->closed;
    pthread_mutex_unlock(&lock);
    return count;
}

VixError VixDiskLib_Disconnect(VixDiskLibConnection connection) {
    Entered in;
    const char *wrong = NULL;
    if (!enter(&in, CALL_Disconnect)) return failure(VIX_E_FAIL);
    pthread_mutex_lock(&lock);
    Connection *found = connection_find(connection);
    if (!found) wrong = "not a connection";
    else if (found->closed) wrong = "disconnected before";
    else if (found->open_handles) wrong = "has handles that are not closed";
    if (found && !wrong) found->closed = true;
    pthread_mutex_unlock(&lock);
    if (wrong) {
        breach(in.call, "the connection: %s", wrong);
        return failure(VIX_E_INVALID_ARG);
    }
    act(&in.action);
    return in.action.what & ACT_ERROR ? failure(in.action.error) : VIX_OK; /* it is gone all the same */
}

static VixError around_access(Call call, const VixDiskLibConnectParams *params, const char *identity) {
    Entered in;
    if (!enter(&in, call)) return failure(VIX_E_FAIL);
    if (!usable(call, params)) return failure(VIX_E_INVALID_ARG);
    bool right = login(call, params);
    if (!identity || !*identity) {
        breach(call, "no identity");
        return failure(VIX_E_INVALID_ARG);
    }
    right &= same(call, "identity", identity);
    act(&in.action);
    if (in.action.what & ACT_ERROR) return failure(in.action.error);
    return right ? VIX_OK : failure(E_CANNOT_CONNECT);
}

VixError VixDiskLib_PrepareForAccess(const VixDiskLibConnectParams *params, const char *identity) {
    return around_access(CALL_PrepareForAccess, params, identity);
}

VixError VixDiskLib_EndAccess(const VixDiskLibConnectParams *params, const char *identity) {
    return around_access(CALL_EndAccess, params, identity);
}

VixError VixDiskLib_Cleanup(const VixDiskLibConnectParams *params, uint32_t *cleaned, uint32_t *remaining) {
    Entered in;
    if (!enter(&in, CALL_Cleanup)) return failure(VIX_E_FAIL);
    if (!cleaned || !remaining) breach(in.call, "no place for the numbers");
    if (!usable(in.call, params) || !cleaned || !remaining) return failure(VIX_E_INVALID_ARG);
    bool right = login(in.call, params);
    act(&in.action);
    *cleaned = *remaining = 0;
    if (in.action.what & ACT_ERROR) return failure(in.action.error);
    return right ? VIX_OK : failure(E_CANNOT_CONNECT);
}
