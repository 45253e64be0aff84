// Transfers by the system's libcurl, which is loaded when the first one is asked for: the program builds without its headers, starts
// where it is missing, and says so only where a model is to be fetched.
//
// The functions and option numbers that are used have been the same since libcurl 7.32 (2013); libcurl promises never to change them.
#ifndef CTRANSFER_H
#define CTRANSFER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Loads the library; from any thread, as often as wanted. Returns 0, or -1 with the reason in `message`.
int st_load(char *message, size_t capacity);
// What libcurl calls itself, with its TLS library; null before it is loaded.
const char *st_version(void);

// One transfer at a time, and the connections that it keeps open for the next one. Null when there is no memory, or no library.
typedef struct st_lane st_lane;
st_lane *st_lane_make(void);
void st_lane_free(st_lane *lane);

// SAFETY: strings end with a zero byte. All that is pointed to must live until st_perform returns; the three functions are called
// within it, on its thread, with `context`, and the bytes that they get are gone when they return.
typedef struct {
  const char *url;
  // Lines "Name: value".
  const char *const *headers;
  int header_count;
  // "first-last", both included; null for all of it.
  const char *range;
  const char *user_agent;
  // A file with the certificates of authorities to trust; null for the library's own.
  const char *authorities;
  long connect_milliseconds;
  // A transfer that brings less than `slow_bytes` a second for `slow_seconds` ends with an error.
  long slow_bytes, slow_seconds;
  void *context;
  // A line of the answer's header, with its line break. Returns 0 to end the transfer.
  int (*on_header)(void *context, const char *line, size_t count);
  // Some of the answer's body. Returns 0 to end the transfer.
  int (*on_body)(void *context, const char *bytes, size_t count);
  // Asked every second at least: whether the transfer is to end.
  int (*is_stopped)(void *context);
} st_request;

typedef struct {
  // 0, or libcurl's number of what went wrong.
  int code;
  // Whether trying again may help: the network or the server failed, and nothing is wrong with what was asked.
  int is_passing;
  // The status of the answer; 0 where none came.
  long status;
  char message[320];
} st_answer;

// Gets a URL over HTTP or HTTPS. Redirects are not followed; certificates are checked; proxies are those that the environment names.
void st_perform(st_lane *lane, const st_request *request, st_answer *answer);

#ifdef __cplusplus
}
#endif
#endif
