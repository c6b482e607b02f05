// A pre-norm Transformer layer (seqbench/models/transformer.py) and dropout for CPUs, in float, without torch or Python.
// What works row by row goes over blocks of ROWS rows, through products, norms and GELU while they are in the cache;
// attention goes over the heads of each sequence. Weights are packed once for each call. The scales and shifts of the
// first two norms are part of the weights that follow them. Every row, block of rows and head is computed alike and in
// the same order, however many threads there are.
#include "parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define BYTES 64
#define TILE 8  // rows of a product that are in registers
#elif defined(__AVX__)
#define BYTES 32
#define TILE 4
#else
#define BYTES 16
#define TILE 4
#endif
#define LANES ((long)(BYTES / sizeof(float)))
#define PANEL (2 * LANES)
#define ROWS 64      // of a block; a multiple of TILE
#define QUERIES 32   // of a block of attention; a multiple of TILE
#define LOG2_E 1.44269504088896340736f

long fused_version(void) { return 1; }  // raised with every change of this file: see fused.py

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
typedef float vec __attribute__((vector_size(BYTES)));
typedef int mask __attribute__((vector_size(BYTES)));
typedef unsigned bits __attribute__((vector_size(BYTES)));
typedef float loose __attribute__((vector_size(BYTES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const loose *)p; }
INLINE void store(float *p, vec x) { *(loose *)p = x; }
INLINE vec fill(float x) { return (vec){0} + x; }
INLINE long up(long n, long multiple) { return (n + multiple - 1) / multiple * multiple; }

static const int LANE[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
// the first `left` numbers of a vector, the others 0
INLINE vec kept(vec x, long left) {
  mask lanes;
  memcpy(&lanes, LANE, BYTES);
  return (vec)((lanes < (int)left) & (mask)x);
}
INLINE vec load_some(const float *p, long left) {
  if (left >= LANES) return load(p);
  float all[LANES] __attribute__((aligned(BYTES))) = {0};
  for (long i = 0; i < left; i++) all[i] = p[i];
  return load(all);
}
INLINE void store_some(float *p, vec x, long left) {
  if (left >= LANES) {
    store(p, x);
    return;
  }
  float all[LANES] __attribute__((aligned(BYTES)));
  store(all, x);
  for (long i = 0; i < left; i++) p[i] = all[i];
}
INLINE vec choose(mask where, vec x, vec y) { return (vec)((where & (mask)x) | (~where & (mask)y)); }
#if defined(__AVX512F__)
INLINE vec larger(vec x, vec y) { return (vec)_mm512_max_ps((__m512)x, (__m512)y); }  // y where either is NaN
INLINE vec smaller(vec x, vec y) { return (vec)_mm512_min_ps((__m512)x, (__m512)y); }
INLINE float sum(vec x) { return _mm512_reduce_add_ps((__m512)x); }
INLINE float largest(vec x) { return _mm512_reduce_max_ps((__m512)x); }
#else
INLINE vec larger(vec x, vec y) { return choose(x > y, x, y); }
INLINE vec smaller(vec x, vec y) { return choose(x < y, x, y); }
INLINE float sum(vec x) {
  float s = 0;
  for (long i = 0; i < LANES; i++) s += x[i];
  return s;
}
INLINE float largest(vec x) {
  float most = x[0];
  for (long i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
  return most;
}
#endif

// 2^x of x not above 0; NaN stays NaN
INLINE vec exp2_of(vec x) {
#if defined(__AVX512F__)
  vec n = (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT), f = x - n;
#else
  x = larger(fill(-126.0f), x);
  vec shifted = x + 12582912.0f, f = x - (shifted - 12582912.0f);  // the integer stands in its lowest bits
#endif
  vec p = fill(1.535342862e-04f);  // minimax, relative error 2e-9
  p = p * f + 1.339887651e-03f;
  p = p * f + 9.618437200e-03f;
  p = p * f + 5.550332467e-02f;
  p = p * f + 2.402264791e-01f;
  p = p * f + 6.931472029e-01f;
  p = p * f + 1.0f;
#if defined(__AVX512F__)
  return (vec)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  return p * (vec)(((bits)shifted + 127) << 23);
#endif
}

// x Phi(x) and its derivative Phi(x) + x phi(x). Phi(-|x|) is exp(-x^2 / 2) times a polynomial of 1 / (1 + 0.3 |x|),
// minimax up to 14 with a relative error of 6e-8.
INLINE void gelu_of(vec x, vec *value, vec *slope) {
  vec t = smaller(fill(14.0f), (vec)((bits)x & 0x7fffffff));
  vec s = 1.0f / (1.0f + 0.3f * t), bell = exp2_of(t * t * (-0.5f * LOG2_E));
  vec p = fill(3.837901124e-02f);
  p = p * s - 1.691694544e-01f;
  p = p * s + 2.286666137e-01f;
  p = p * s - 7.651348514e-02f;
  p = p * s + 1.425400192e-01f;
  p = p * s + 9.468176496e-02f;
  p = p * s + 1.219207501e-01f;
  p = p * s + 1.194876377e-01f;
  p = p * s + 7.171534801e-06f;
  vec tail = p * bell, below = choose(x < 0.0f, tail, 1.0f - tail);
  *value = x * below;
  *slope = below + x * bell * 0.398942280401f;
}

// ---- products: C (M, N) = or += A (M, K) B (K, N) -------------------------------------------------------------------
// A lies at strides `row` and `inner`, one of which is 1. B lies in panels of PANEL columns, `panel` apart, whose rows
// are `ldb` apart. N is a multiple of LANES, or the last vector of C is stored in part.

#define BLOCK(M, COLUMNS)                                                                                             \
  INLINE void block_##M##_##COLUMNS(const float *A, long row, long inner, long K, const float *B, long ldb, float *C, \
                                    long ldc, int add, long left) {                                                   \
    vec c[M][COLUMNS];                                                                                                \
    UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < COLUMNS; j++)                                       \
        c[i][j] = add ? load(C + i * ldc + j * LANES) : fill(0);                                                      \
    for (long k = 0; k < K; k++) {                                                                                    \
      vec b[COLUMNS];                                                                                                 \
      UNROLL for (int j = 0; j < COLUMNS; j++) b[j] = load(B + k * ldb + j * LANES);                                  \
      UNROLL for (int i = 0; i < M; i++) {                                                                            \
        vec a = fill(A[i * row + k * inner]);                                                                         \
        UNROLL for (int j = 0; j < COLUMNS; j++) c[i][j] += a * b[j];                                                 \
      }                                                                                                               \
    }                                                                                                                 \
    UNROLL for (int i = 0; i < M; i++) {                                                                              \
      UNROLL for (int j = 0; j < COLUMNS - 1; j++) store(C + i * ldc + j * LANES, c[i][j]);                           \
      store_some(C + i * ldc + (COLUMNS - 1) * LANES, c[i][COLUMNS - 1], left - (COLUMNS - 1) * LANES);               \
    }                                                                                                                 \
  }
#if TILE == 8
BLOCK(8, 2)
BLOCK(8, 1)
#define TILE_2 block_8_2
#define TILE_1 block_8_1
#else
BLOCK(4, 2)
BLOCK(4, 1)
#define TILE_2 block_4_2
#define TILE_1 block_4_1
#endif
BLOCK(1, 2)
BLOCK(1, 1)

INLINE void multiply(const float *A, long row, long inner, long M, long K, const float *B, long ldb, long panel, long N,
                     float *C, long ldc, int add) {
  for (long n = 0; n < N; n += PANEL, B += panel, C += PANEL) {
    long m = 0, left = N - n;
    if (left > LANES) {
      for (; m + TILE <= M; m += TILE) TILE_2(A + m * row, row, inner, K, B, ldb, C + m * ldc, ldc, add, left);
      for (; m < M; m++) block_1_2(A + m * row, row, inner, K, B, ldb, C + m * ldc, ldc, add, left);
    } else {
      for (; m + TILE <= M; m += TILE) TILE_1(A + m * row, row, inner, K, B, ldb, C + m * ldc, ldc, add, left);
      for (; m < M; m++) block_1_1(A + m * row, row, inner, K, B, ldb, C + m * ldc, ldc, add, left);
    }
  }
}
// by weights (K, N) that `pack` packed
static void by_weights(const float *A, long lda, long M, long K, const float *packed, long N, float *C, long ldc) {
  multiply(A, lda, 1, M, K, packed, PANEL, PANEL * K, N, C, ldc, 0);
}
// rows of A by rows of B, both `ld...` apart
static void by_rows(const float *A, long lda, long M, long K, const float *B, long ldb, long N, float *C, long ldc) {
  multiply(A, lda, 1, M, K, B, ldb, PANEL, N, C, ldc, 0);
}
// adds columns of A by rows of B
static void by_columns(const float *A, long lda, long M, long K, const float *B, long ldb, long N, float *C, long ldc) {
  multiply(A, 1, lda, M, K, B, ldb, PANEL, N, C, ldc, 1);
}

// W (K, N) at strides `inner` and `out`, to panels with zeros at the end
static void pack(const float *W, long inner, long out, long K, long N, float *P) {
  for (long n = 0; n < N; n += PANEL)
    for (long k = 0; k < K; k++)
      for (long j = 0; j < PANEL; j++) *P++ = n + j < N ? W[(n + j) * out + k * inner] : 0;
}
static long packed_size(long K, long N) { return K * up(N, PANEL); }

// ---- norms ----------------------------------------------------------------------------------------------------------

#define EACH(j, D) for (long j = 0; j < (D); j += LANES)

// (x - mean) / deviation of a row
INLINE void normalise(const float *x, long D, float *normed, float *inverse) {
  vec total = fill(0), squares = fill(0);
  EACH(j, D) total += load_some(x + j, D - j);
  float mean = sum(total) / D;
  EACH(j, D) {
    vec off = load_some(x + j, D - j) - mean;
    if (D - j < LANES)
      for (long i = D - j; i < LANES; i++) off[i] = 0;
    squares += off * off;
  }
  float scale = 1.0f / sqrtf(sum(squares) / D + 1e-5f);
  EACH(j, D) store_some(normed + j, (load_some(x + j, D - j) - mean) * scale, D - j);
  *inverse = scale;
}

// to = add + the gradient of a row before its norm, from g, that after it; `add` may be NULL
INLINE void normalise_back(const float *g, const float *normed, float inverse, long D, const float *add, float *to) {
  vec a = fill(0), b = fill(0);
  EACH(j, D) {
    vec d = load_some(g + j, D - j);
    a += d, b += d * load_some(normed + j, D - j);
  }
  float mean = sum(a) / D, along = sum(b) / D;
  EACH(j, D) {
    vec d = (load_some(g + j, D - j) - mean - load_some(normed + j, D - j) * along) * inverse;
    store_some(to + j, add ? d + load_some(add + j, D - j) : d, D - j);
  }
}

INLINE void add_to(float *sums, const float *row, long N) {
  EACH(j, N) store_some(sums + j, load_some(sums + j, N - j) + load_some(row + j, N - j), N - j);
}

// ---- the layer: of n rows, D wide, in heads of d; F is the width of the feed-forward part --------------------------

typedef struct {
  long n, D, F, heads, batch, steps, causal;
  const long *lengths;  // (batch,) or NULL
  const long *symbols;  // (n,) or NULL: row i of x and qkv is that of the symbol; then they have one row for each
  const float *cosines, *sines;  // (steps, d / 2)
  // weights as torch has them, (out, in); those after a norm with its scale and shift in them
  const float *w_qkv, *b_qkv, *w_merge, *b_merge, *w_widen, *b_widen, *w_narrow, *b_narrow, *scale, *shift;
  const float *x;                       // (n, D)
  float *normed1, *inverse1, *qkv;      // (n, D), (n,), (n, 3 D)
  float *mixed, *log_sums;              // (n, D), (batch, heads, steps)
  float *normed2, *inverse2, *feed, *slope, *normed3, *inverse3, *y;  // of feed and slope (n, F); forward only: NULL
  const float *dy;
  float *d3, *dfeed, *d2, *dmixed, *dqkv, *dx;  // after the second skip, in the feed-forward part, after the first
  float *sums;    // (blocks, 4 D + F): of dy normed3, dy, d3, d2, dfeed; for `layer_enter_backward` (blocks, 3 D): of dqkv
  float *packed;  // room for weights
  int failed;     // no memory
} Layer;

INLINE const float *row_of(const float *rows, const Layer *q, long i, long width) {
  return rows + (q->symbols ? q->symbols[i] : i) * width;
}
static float *room(const Layer *q, long size) {
  float *p = 0;
  if (posix_memalign((void **)&p, BYTES, size * sizeof(float))) {
    ((Layer *)q)->failed = 1;
    return 0;
  }
  return p;
}
static void over_blocks(void (*body)(const void *, long, long), const Layer *q, long threads) {
  split(body, q, (q->n + ROWS - 1) / ROWS, threads);
}
long layer_blocks(long n) { return (n + ROWS - 1) / ROWS; }
long layer_room(long D, long F) {
  long leave = packed_size(D, D) + packed_size(D, F) + packed_size(F, D);
  return leave + packed_size(D, 3 * D) + packed_size(3 * D, D);
}
#define FOR_BLOCKS(q, M) \
  for (long block = lo, first = lo * ROWS, M; \
       block < hi && (M = q->n - first < ROWS ? q->n - first : ROWS, 1); block++, first += ROWS)

// normed1 = norm(x), qkv = normed1 W + b
static void enter_forward(const void *call, long lo, long hi) {
  const Layer *q = call;
  long D = q->D, N = 3 * D;
  FOR_BLOCKS(q, M) {
    float *normed = q->normed1 + first * D, *qkv = q->qkv + first * N;
    for (long i = 0; i < M; i++) normalise(q->x + (first + i) * D, D, normed + i * D, q->inverse1 + first + i);
    by_weights(normed, D, M, D, q->packed, N, qkv, N);
    for (long i = 0; i < M; i++) add_to(qkv + i * N, q->b_qkv, N);
  }
}
void layer_enter_forward(Layer *q, long threads) {
  pack(q->w_qkv, 1, q->D, q->D, 3 * q->D, q->packed);
  over_blocks(enter_forward, q, threads);
}

// dx = d2 + the gradient through the norm of dqkv W
static void enter_backward(const void *call, long lo, long hi) {
  const Layer *q = call;
  long D = q->D, N = 3 * D;
  float *d = room(q, ROWS * D);
  if (!d) return;
  FOR_BLOCKS(q, M) {
    const float *dqkv = q->dqkv + first * N;
    float *sums = q->sums + block * N;
    memset(sums, 0, N * sizeof(float));
    for (long i = 0; i < M; i++) add_to(sums, dqkv + i * N, N);
    by_weights(dqkv, N, M, N, q->packed, D, d, D);
    for (long i = 0, r = first; i < M; i++, r++)
      normalise_back(d + i * D, q->normed1 + r * D, q->inverse1[r], D, q->d2 + r * D, q->dx + r * D);
  }
  free(d);
}
void layer_enter_backward(Layer *q, long threads) {
  pack(q->w_qkv, q->D, 1, 3 * q->D, q->D, q->packed);
  over_blocks(enter_backward, q, threads);
}

// y = norm(z + feed-forward(norm(z))), z = x + mixed W + b
static void leave_forward(const void *call, long lo, long hi) {
  const Layer *q = call;
  long D = q->D, F = q->F;
  const float *merge = q->packed, *widen = merge + packed_size(D, D), *narrow = widen + packed_size(D, F);
  float *z = room(q, ROWS * (3 * D + 2 * F));
  if (!z) return;
  float *spare_normed = z + ROWS * D, *out = spare_normed + ROWS * D, *wide = out + ROWS * D, *spare_feed = wide + ROWS * F;
  FOR_BLOCKS(q, M) {
    float *normed = q->normed2 ? q->normed2 + first * D : spare_normed, *feed = q->feed ? q->feed + first * F : spare_feed;
    float inverse;
    by_weights(q->mixed + first * D, D, M, D, merge, D, z, D);
    for (long i = 0; i < M; i++) {
      const float *x = row_of(q->x, q, first + i, D);
      float *to = z + i * D;
      add_to(to, q->b_merge, D), add_to(to, x, D);
      normalise(to, D, normed + i * D, &inverse);
      if (q->inverse2) q->inverse2[first + i] = inverse;
    }
    by_weights(normed, D, M, D, widen, F, wide, F);
    for (long i = 0; i < M; i++)
      EACH(j, F) {
        vec value, slope;
        gelu_of(load_some(wide + i * F + j, F - j) + load_some(q->b_widen + j, F - j), &value, &slope);
        store_some(feed + i * F + j, value, F - j);
        if (q->slope) store_some(q->slope + (first + i) * F + j, slope, F - j);
      }
    by_weights(feed, F, M, F, narrow, D, out, D);
    for (long i = 0; i < M; i++) {
      float *from = out + i * D, *last = q->normed3 ? q->normed3 + (first + i) * D : from, *y = q->y + (first + i) * D;
      add_to(from, q->b_narrow, D), add_to(from, z + i * D, D);
      normalise(from, D, last, &inverse);
      if (q->inverse3) q->inverse3[first + i] = inverse;
      EACH(j, D) {
        vec scaled = load_some(last + j, D - j) * load_some(q->scale + j, D - j);
        store_some(y + j, scaled + load_some(q->shift + j, D - j), D - j);
      }
    }
  }
  free(z);
}
void layer_leave_forward(Layer *q, long threads) {
  long D = q->D, F = q->F;
  float *merge = q->packed, *widen = merge + packed_size(D, D), *narrow = widen + packed_size(D, F);
  pack(q->w_merge, 1, D, D, D, merge), pack(q->w_widen, 1, D, D, F, widen), pack(q->w_narrow, 1, F, F, D, narrow);
  over_blocks(leave_forward, q, threads);
}

static void leave_backward(const void *call, long lo, long hi) {
  const Layer *q = call;
  long D = q->D, F = q->F, S = 4 * D + F;
  const float *merge = q->packed, *widen = merge + packed_size(D, D), *narrow = widen + packed_size(F, D);
  float *d = room(q, ROWS * D);
  if (!d) return;
  FOR_BLOCKS(q, M) {
    float *sums = q->sums + block * S, *d3 = q->d3 + first * D, *wide = q->dfeed + first * F, *d2 = q->d2 + first * D;
    memset(sums, 0, S * sizeof(float));
    for (long i = 0, r = first; i < M; i++, r++) {
      const float *dy = q->dy + r * D, *normed = q->normed3 + r * D;
      EACH(j, D) {
        vec g = load_some(dy + j, D - j);
        store_some(sums + j, load_some(sums + j, D - j) + g * load_some(normed + j, D - j), D - j);
        store_some(sums + D + j, load_some(sums + D + j, D - j) + g, D - j);
        store_some(d + j, g * load_some(q->scale + j, D - j), D - j);
      }
      normalise_back(d, normed, q->inverse3[r], D, 0, d3 + i * D);
      add_to(sums + 2 * D, d3 + i * D, D);
    }
    by_weights(d3, D, M, D, narrow, F, wide, F);
    for (long i = 0; i < M; i++) {
      EACH(j, F) {
        vec g = load_some(wide + i * F + j, F - j) * load_some(q->slope + (first + i) * F + j, F - j);
        store_some(wide + i * F + j, g, F - j);
        store_some(sums + 4 * D + j, load_some(sums + 4 * D + j, F - j) + g, F - j);
      }
    }
    by_weights(wide, F, M, F, widen, D, d, D);
    for (long i = 0, r = first; i < M; i++, r++) {
      normalise_back(d + i * D, q->normed2 + r * D, q->inverse2[r], D, d3 + i * D, d2 + i * D);
      add_to(sums + 3 * D, d2 + i * D, D);
    }
    by_weights(d2, D, M, D, merge, D, q->dmixed + first * D, D);
  }
  free(d);
}
void layer_leave_backward(Layer *q, long threads) {
  long D = q->D, F = q->F;
  float *merge = q->packed, *widen = merge + packed_size(D, D), *narrow = widen + packed_size(F, D);
  pack(q->w_merge, D, 1, D, D, merge), pack(q->w_widen, D, 1, F, D, widen), pack(q->w_narrow, F, 1, D, F, narrow);
  over_blocks(leave_backward, q, threads);
}

// ---- attention: softmax(q k' / sqrt(d)) v of a head of a sequence, a block of queries at a time ---------------------

// pairs (i, i + d/2) of `from`, turned by the angles of a step (sign 1) or back (-1), times `scale`
INLINE void turn(const float *from, const float *cosine, const float *sine, float sign, float scale, long d, float *to) {
  long half = d / 2, i = 0;
  for (; i + LANES <= half; i += LANES) {
    vec a = load(from + i) * scale, b = load(from + half + i) * scale, c = load(cosine + i), s = load(sine + i) * sign;
    store(to + i, a * c - b * s), store(to + half + i, b * c + a * s);
  }
  for (; i < half; i++) {
    float a = from[i] * scale, b = from[half + i] * scale, c = cosine[i], s = sine[i] * sign;
    to[i] = a * c - b * s, to[half + i] = b * c + a * s;
  }
}

// (n, d) rows, `wide` apart, to (d, stride)
static void transpose(const float *rows, long n, long d, long wide, float *to, long stride) {
  for (long t = 0; t < n; t += LANES)
    for (long k = 0; k < d; k++) {
      long most = n - t < LANES ? n - t : LANES;
      for (long i = 0; i < most; i++) to[k * stride + t + i] = rows[(t + i) * wide + k];
    }
}

typedef struct {
  long d, wide, padded, stride;  // of a head; with padding; of the steps; between rows over steps
  float *k, *v, *kt, *vt, *q, *o, *s, *p, *dq, *dk, *dv, *all;
} Head;

static Head head_room(const Layer *q, int back) {
  Head h;
  h.d = q->D / q->heads;
  h.wide = up(h.d, LANES), h.padded = up(q->steps, PANEL), h.stride = h.padded + LANES;
  long rows = up(h.padded, TILE) * h.wide, columns = h.d * h.stride, block = QUERIES * h.wide, square = QUERIES * h.stride;
  long size = 2 * rows + columns + 2 * block + square + (back ? columns + square + block + 2 * rows : 0);
  h.all = room(q, size);
  if (!h.all) return h;
  memset(h.all, 0, size * sizeof(float));
  float *next = h.all;
  h.k = next, next += rows, h.v = next, next += rows, h.kt = next, next += columns, h.q = next, next += block;
  h.o = next, next += block, h.s = next, next += square;
  if (back) {
    h.vt = next, next += columns, h.p = next, next += square, h.dq = next, next += block;
    h.dk = next, next += rows, h.dv = next, next += rows;
  }
  return h;
}

INLINE long looked_at(const Layer *q, long b) {
  if (!q->lengths || q->lengths[b] > q->steps) return q->steps;
  return q->lengths[b] > 0 ? q->lengths[b] : 0;
}

INLINE void read_keys(const Layer *q, const Head *h, long b, long head, long n) {
  for (long t = 0; t < n; t++) {
    const float *from = row_of(q->qkv, q, b * q->steps + t, 3 * q->D) + head * h->d;
    turn(from + q->D, q->cosines + t * (h->d / 2), q->sines + t * (h->d / 2), 1, 1, h->d, h->k + t * h->wide);
    memcpy(h->v + t * h->wide, from + 2 * q->D, h->d * sizeof(float));
  }
  transpose(h->k, n, h->d, h->wide, h->kt, h->stride);
}

// queries from `first`, times log2(e) / sqrt(d): powers of 2 are cheaper
INLINE void read_queries(const Layer *q, const Head *h, long b, long head, long first, long M) {
  for (long i = 0, t = first; i < M; i++, t++) {
    const float *from = row_of(q->qkv, q, b * q->steps + t, 3 * q->D) + head * h->d;
    turn(from, q->cosines + t * (h->d / 2), q->sines + t * (h->d / 2), 1, LOG2_E / sqrtf(h->d), h->d, h->q + i * h->wide);
  }
}

static void attention_forward(const void *call, long lo, long hi) {
  const Layer *q = call;
  Head h = head_room(q, 0);
  for (long at = lo; h.all && at < hi; at++) {
    long b = at / q->heads, head = at % q->heads, T = q->steps;
    long keys = looked_at(q, b);
    read_keys(q, &h, b, head, keys);
    for (long first = 0; first < T; first += QUERIES) {
      long M = T - first < QUERIES ? T - first : QUERIES, tiles = up(M, TILE);
      long seen = q->causal && first + M < keys ? first + M : keys, columns = up(seen, LANES);
      read_queries(q, &h, b, head, first, M);
      by_rows(h.q, h.wide, tiles, h.d, h.kt, h.stride, columns, h.s, h.stride);
      float inverse[QUERIES];
      for (long i = 0; i < M; i++) {
        long n = q->causal && first + i + 1 < seen ? first + i + 1 : seen;
        float *s = h.s + i * h.stride;
        long whole = n / LANES * LANES;
        inverse[i] = q->log_sums[at * T + first + i] = 0;
        if (!n) continue;
        vec high = fill(s[0]), total = fill(0);
        EACH(j, whole) high = larger(load(s + j), high);
        float most = largest(high);
        for (long j = whole; j < n; j++) most = s[j] > most ? s[j] : most;
        EACH(j, whole) {
          vec e = exp2_of(load(s + j) - most);
          total += e;
          store(s + j, e);
        }
        if (whole < n) {
          vec e = kept(exp2_of(load(s + whole) - most), n - whole);
          total += e;
          store(s + whole, e);
          whole += LANES;
        }
        for (long j = whole; j < columns; j++) s[j] = 0;
        float all = sum(total);
        inverse[i] = 1.0f / all;
        q->log_sums[at * T + first + i] = most + log2f(all);
      }
      by_rows(h.s, h.stride, tiles, seen, h.v, h.wide, h.wide, h.o, h.wide);
      for (long i = 0; i < M; i++) {
        float *to = q->mixed + (b * T + first + i) * q->D + head * h.d;
        EACH(j, h.d) store_some(to + j, load(h.o + i * h.wide + j) * inverse[i], h.d - j);
      }
    }
  }
  free(h.all);
}
void layer_attention_forward(Layer *q, long threads) { split(attention_forward, q, q->batch * q->heads, threads); }

static void attention_backward(const void *call, long lo, long hi) {
  const Layer *q = call;
  Head h = head_room(q, 1);
  for (long at = lo; h.all && at < hi; at++) {
    long b = at / q->heads, head = at % q->heads, T = q->steps, half = h.d / 2;
    long keys = looked_at(q, b);
    read_keys(q, &h, b, head, keys);
    transpose(h.v, keys, h.d, h.wide, h.vt, h.stride);
    memset(h.dk, 0, up(T, TILE) * h.wide * sizeof(float)), memset(h.dv, 0, up(T, TILE) * h.wide * sizeof(float));
    for (long first = 0; first < T; first += QUERIES) {
      long M = T - first < QUERIES ? T - first : QUERIES, tiles = up(M, TILE);
      long seen = q->causal && first + M < keys ? first + M : keys, columns = up(seen, LANES);
      float along[QUERIES];
      read_queries(q, &h, b, head, first, M);
      for (long i = 0; i < M; i++) {
        long r = (b * T + first + i) * q->D + head * h.d;
        vec product = fill(0);
        EACH(j, h.d) {
          vec g = load_some(q->dmixed + r + j, h.d - j);
          product += g * load_some(q->mixed + r + j, h.d - j);
          store(h.o + i * h.wide + j, g);
        }
        along[i] = sum(product);
      }
      by_rows(h.q, h.wide, tiles, h.d, h.kt, h.stride, columns, h.p, h.stride);
      by_rows(h.o, h.wide, tiles, h.d, h.vt, h.stride, columns, h.s, h.stride);
      for (long i = 0; i < M; i++) {
        long n = q->causal && first + i + 1 < seen ? first + i + 1 : seen;
        float *p = h.p + i * h.stride, *s = h.s + i * h.stride, log_sum = q->log_sums[at * T + first + i];
        long j = 0;
        for (; j < n; j += LANES) {
          vec e = exp2_of(load(p + j) - log_sum), d = e * (load(s + j) - along[i]);
          if (n - j < LANES) e = kept(e, n - j), d = kept(d, n - j);
          store(p + j, e), store(s + j, d);
        }
        for (; j < columns; j++) p[j] = 0, s[j] = 0;
      }
      by_columns(h.p, h.stride, up(seen, TILE), M, h.o, h.wide, h.wide, h.dv, h.wide);
      by_columns(h.s, h.stride, up(seen, TILE), M, h.q, h.wide, h.wide, h.dk, h.wide);
      by_rows(h.s, h.stride, tiles, seen, h.k, h.wide, h.wide, h.dq, h.wide);
      for (long i = 0, t = first; i < M; i++, t++)
        turn(h.dq + i * h.wide, q->cosines + t * half, q->sines + t * half, -1, 1 / sqrtf(h.d), h.d,
             q->dqkv + (b * T + t) * 3 * q->D + head * h.d);
    }
    for (long t = 0; t < T; t++) {
      float *to = q->dqkv + (b * T + t) * 3 * q->D + head * h.d;
      turn(h.dk + t * h.wide, q->cosines + t * half, q->sines + t * half, -1, 1 / LOG2_E, h.d, to + q->D);
      memcpy(to + 2 * q->D, h.dv + t * h.wide, h.d * sizeof(float));
    }
  }
  free(h.all);
}
void layer_attention_backward(Layer *q, long threads) { split(attention_backward, q, q->batch * q->heads, threads); }

// ---- dropout: y = x where the word of 16 bits is not below `least`, times `scale`, else 0 ---------------------------

typedef struct {
  const float *x;
  const short *words;
  long n, least;
  float scale, *y;
} Drop;
#define PIECE 4096
static void drop(const void *call, long lo, long hi) {
  const Drop *q = call;
  long end = hi * PIECE < q->n ? hi * PIECE : q->n;
  const float *restrict x = q->x;
  const short *restrict words = q->words;
  float *restrict y = q->y, scale = q->scale;
  int least = (int)q->least;
  for (long i = lo * PIECE; i < end; i++) y[i] = x[i] * (words[i] >= least ? scale : 0.0f);
}
void drop_values(const float *x, const short *words, long n, long least, float scale, float *y, long threads) {
  Drop q = {x, words, n, least, scale, y};
  split(drop, &q, (n + PIECE - 1) / PIECE, threads);
}
