// A loop in threads, for what is in C.
#pragma once
#include <pthread.h>

// `body(call, lo, hi)` over 0 to `size`, in `threads` parts, each in a thread of its own. What a thread takes over from
// the one that starts it includes whether denormal numbers count as zero.
typedef struct {
  void (*body)(const void *, long, long);
  const void *call;
  long lo, hi;
} Part;
static void *run_part(void *part) {
  const Part *p = part;
  p->body(p->call, p->lo, p->hi);
  return 0;
}
#define MOST_THREADS 64
static void split(void (*body)(const void *, long, long), const void *call, long size, long threads) {
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  long each = threads < 2 ? size : ((size + threads - 1) / threads + 3) / 4 * 4, parts = 0;
  pthread_t ids[MOST_THREADS];
  Part part[MOST_THREADS];
  long lo = 0;
  for (; lo + each < size; lo += each, parts++) {
    part[parts] = (Part){body, call, lo, lo + each};
    if (pthread_create(&ids[parts], 0, run_part, &part[parts])) break;  // the rest is done here
  }
  body(call, lo, size);
  for (long i = 0; i < parts; i++) pthread_join(ids[i], 0);
}
