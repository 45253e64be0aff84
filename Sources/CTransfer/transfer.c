// libcurl's functions by their addresses. The declarations are our own: its headers are on few machines, the library is on nearly
// all.
#include "CTransfer.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Numbers of curl.h: 10000 + n takes a pointer, 20000 + n a function, n a long.
enum {
  LOW_SPEED_LIMIT = 19,
  LOW_SPEED_TIME = 20,
  NOPROGRESS = 43,
  SSL_VERIFYPEER = 64,
  HTTPGET = 80,
  SSL_VERIFYHOST = 81,
  HTTP_VERSION = 84,
  BUFFERSIZE = 98,
  NOSIGNAL = 99,
  CONNECTTIMEOUT_MS = 156,
  PROTOCOLS = 181,
  TCP_KEEPALIVE = 213,
  WRITEDATA = 10001,
  URL = 10002,
  RANGE = 10007,
  ERRORBUFFER = 10010,
  USERAGENT = 10018,
  HTTPHEADER = 10023,
  HEADERDATA = 10029,
  XFERINFODATA = 10057,
  CAINFO = 10065,
  WRITEFUNCTION = 20011,
  HEADERFUNCTION = 20079,
  XFERINFOFUNCTION = 20219,
  INFO_RESPONSE_CODE = 0x200002,
  GLOBAL_DEFAULT = 3,
  PROTOCOL_HTTP = 1,
  PROTOCOL_HTTPS = 2,
  VERSION_1_1 = 2,
};

// SAFETY: setopt and getinfo take their last argument as variadic functions do, which some machines pass otherwise than a plain one:
// they are declared so. Longs are passed as long, pointers as pointers.
static struct {
  int (*global_init)(long);
  void *(*easy_init)(void);
  int (*easy_setopt)(void *, int, ...);
  int (*easy_perform)(void *);
  int (*easy_getinfo)(void *, int, ...);
  void (*easy_reset)(void *);
  void (*easy_cleanup)(void *);
  const char *(*easy_strerror)(int);
  void *(*slist_append)(void *, const char *);
  void (*slist_free_all)(void *);
  char *(*version)(void);
} curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int is_loaded;
static char reason[512];

static void load(void) {
  const char *const asked = getenv("SMELT_LIBCURL");
  const char *const known[] = {
#if defined(__APPLE__)
      "/usr/lib/libcurl.4.dylib", "libcurl.4.dylib", "libcurl.dylib",
#else
      "libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so",
#endif
  };
  void *library = NULL;
  if (asked && *asked) {
    library = dlopen(asked, RTLD_NOW | RTLD_LOCAL);
  } else {
    for (size_t i = 0; !library && i < sizeof known / sizeof *known; i++) library = dlopen(known[i], RTLD_NOW | RTLD_LOCAL);
  }
  if (!library) {
    const char *text = dlerror();
    snprintf(reason, sizeof reason, "%s", text ? text : "libcurl is not there");
    return;
  }
  const struct {
    const char *name;
    void **place;
  } functions[] = {
      {"curl_global_init", (void **)&curl.global_init},     {"curl_easy_init", (void **)&curl.easy_init},
      {"curl_easy_setopt", (void **)&curl.easy_setopt},     {"curl_easy_perform", (void **)&curl.easy_perform},
      {"curl_easy_getinfo", (void **)&curl.easy_getinfo},   {"curl_easy_reset", (void **)&curl.easy_reset},
      {"curl_easy_cleanup", (void **)&curl.easy_cleanup},   {"curl_easy_strerror", (void **)&curl.easy_strerror},
      {"curl_slist_append", (void **)&curl.slist_append},   {"curl_slist_free_all", (void **)&curl.slist_free_all},
      {"curl_version", (void **)&curl.version},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    *functions[i].place = dlsym(library, functions[i].name);
    if (!*functions[i].place) {
      snprintf(reason, sizeof reason, "the library has no %s", functions[i].name);
      return;
    }
  }
  if (curl.global_init(GLOBAL_DEFAULT) != 0) {
    snprintf(reason, sizeof reason, "libcurl cannot be initialized");
    return;
  }
  is_loaded = 1;
}

int st_load(char *message, size_t capacity) {
  pthread_once(&once, load);
  if (is_loaded) return 0;
  if (capacity) snprintf(message, capacity, "%s", reason);
  return -1;
}

const char *st_version(void) { return is_loaded ? curl.version() : NULL; }

struct st_lane {
  void *handle;
};

st_lane *st_lane_make(void) {
  if (st_load(NULL, 0) != 0) return NULL;
  st_lane *lane = calloc(1, sizeof *lane);
  if (lane) lane->handle = curl.easy_init();
  if (lane && !lane->handle) free(lane), lane = NULL;
  return lane;
}

void st_lane_free(st_lane *lane) {
  if (!lane) return;
  curl.easy_cleanup(lane->handle);
  free(lane);
}

static size_t take_header(char *bytes, size_t size, size_t count, void *user) {
  const st_request *request = user;
  return request->on_header(request->context, bytes, size * count) ? size * count : 0;
}

// Another number than that of the bytes ends the transfer; 0 would do unless there were none.
static size_t take_body(char *bytes, size_t size, size_t count, void *user) {
  const st_request *request = user;
  if (size * count == 0) return 0;
  return request->on_body(request->context, bytes, size * count) ? size * count : 0;
}

static int take_progress(void *user, long long total, long long now, long long up_total, long long up) {
  (void)total, (void)now, (void)up_total, (void)up;
  const st_request *request = user;
  return request->is_stopped(request->context);
}

// Numbers of CURLcode that say something of the network or the server: no proxy or host found (5, 6), no connection (7), HTTP/2
// (16, 92), a body cut short (18), a time-out (28), TLS broken off (35), no answer (52), sending and receiving (55, 56), HTTP/3 (95).
static int is_passing(int code) {
  static const int passing[] = {5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92, 95};
  for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
    if (passing[i] == code) return 1;
  return 0;
}

void st_perform(st_lane *lane, const st_request *request, st_answer *answer) {
  void *const handle = lane->handle;
  memset(answer, 0, sizeof *answer);
  // Connections, sessions and names stay; options go.
  curl.easy_reset(handle);
  void *headers = NULL;
  for (int i = 0; i < request->header_count; i++) {
    void *longer = curl.slist_append(headers, request->headers[i]);
    if (!longer) {
      curl.slist_free_all(headers);
      answer->code = 27;
      snprintf(answer->message, sizeof answer->message, "out of memory");
      return;
    }
    headers = longer;
  }
  char text[512] = "";
  curl.easy_setopt(handle, ERRORBUFFER, text);
  curl.easy_setopt(handle, URL, request->url);
  curl.easy_setopt(handle, PROTOCOLS, (long)(PROTOCOL_HTTP | PROTOCOL_HTTPS));
  curl.easy_setopt(handle, HTTPGET, 1L);
  // Requests side by side take a connection each: one that is shared is as fast as its slowest.
  curl.easy_setopt(handle, HTTP_VERSION, (long)VERSION_1_1);
  curl.easy_setopt(handle, SSL_VERIFYPEER, 1L);
  curl.easy_setopt(handle, SSL_VERIFYHOST, 2L);
  curl.easy_setopt(handle, NOSIGNAL, 1L);
  curl.easy_setopt(handle, TCP_KEEPALIVE, 1L);
  curl.easy_setopt(handle, BUFFERSIZE, 512L << 10);
  curl.easy_setopt(handle, CONNECTTIMEOUT_MS, request->connect_milliseconds);
  curl.easy_setopt(handle, LOW_SPEED_LIMIT, request->slow_bytes);
  curl.easy_setopt(handle, LOW_SPEED_TIME, request->slow_seconds);
  if (request->range) curl.easy_setopt(handle, RANGE, request->range);
  if (request->user_agent) curl.easy_setopt(handle, USERAGENT, request->user_agent);
  if (request->authorities) curl.easy_setopt(handle, CAINFO, request->authorities);
  if (headers) curl.easy_setopt(handle, HTTPHEADER, headers);
  curl.easy_setopt(handle, HEADERFUNCTION, take_header);
  curl.easy_setopt(handle, HEADERDATA, (void *)request);
  curl.easy_setopt(handle, WRITEFUNCTION, take_body);
  curl.easy_setopt(handle, WRITEDATA, (void *)request);
  curl.easy_setopt(handle, XFERINFOFUNCTION, take_progress);
  curl.easy_setopt(handle, XFERINFODATA, (void *)request);
  curl.easy_setopt(handle, NOPROGRESS, 0L);
  answer->code = curl.easy_perform(handle);
  answer->is_passing = is_passing(answer->code);
  curl.easy_getinfo(handle, INFO_RESPONSE_CODE, &answer->status);
  if (answer->code)
    snprintf(answer->message, sizeof answer->message, "%s", text[0] ? text : curl.easy_strerror(answer->code));
  // The buffer and the list are this call's own.
  curl.easy_reset(handle);
  curl.slist_free_all(headers);
}
