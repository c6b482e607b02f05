// A loop in threads, for what is in C.
#pragma once
#include <pthread.h>

// GOMP_parallel of the OpenMP that torch computes with, if it has been given (cells.c). Its threads wait in a loop for
// a while after each of torch's own operations: others beside them would have to share the cores with that.
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);
extern Parallel seqbench_parallel;

#define MOST_THREADS 64
// `body(call, lo, hi)` over 0 to `size` in `parts`, each taken by the thread that comes first: what is computed is the
// same whichever that is. Threads that are started here take over whether denormal numbers count as zero.
typedef struct {
  void (*body)(const void *, long, long);
  const void *call;
  long size, each, parts, next;
} Team;
static void take_parts(void *team) {
  Team *t = team;
  for (long i; (i = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED)) < t->parts;) {
    long lo = i * t->each, hi = lo + t->each;
    t->body(t->call, lo, hi < t->size ? hi : t->size);
  }
}
static void *take_in_thread(void *team) {
  take_parts(team);
  return 0;
}
static void split(void (*body)(const void *, long, long), const void *call, long size, long threads) {
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  long each = threads < 2 ? size : ((size + threads - 1) / threads + 3) / 4 * 4;
  long parts = each > 0 ? (size + each - 1) / each : 0;
  Team team = {body, call, size, each, parts, 0};
  if (parts < 2) {
    body(call, 0, size);
    return;
  }
  if (seqbench_parallel) {
    seqbench_parallel(take_parts, &team, (unsigned)parts, 0);
    return;
  }
  pthread_t ids[MOST_THREADS];
  long started = 0;
  while (started < parts - 1 && !pthread_create(&ids[started], 0, take_in_thread, &team)) started++;
  take_parts(&team);
  for (long i = 0; i < started; i++) pthread_join(ids[i], 0);
}
