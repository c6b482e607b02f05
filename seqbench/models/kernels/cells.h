// The recurrent cells for one type of number. cells.c includes this once for float and once for double, with
//   REAL the type, WORD an integer of its size, NAME(f) the name of a function for it.
//
// All arrays are row-major. `gates` holds the pre-activations (steps, batch, gates x width), then the gates themselves;
// widths are multiples of PANEL, which the caller sees to by padding with zeros: a padded entry of a state stays zero.
// `order` is 1 or -1: the steps run forwards or backwards in memory, and the pointers point to the step that is run
// first. `lengths` is NULL, or holds for each row how many steps are real; of a sequence that is read backwards the
// steps from there on, which are run first, leave the state at zero. `first` is the index in memory of that first step.
//
// Recurrent dropout (Gal and Ghahramani 2016): the recurrent product reads the state times `seen`, which is the same at
// all steps. Zoneout (Krueger et al. 2016): of its new value a unit takes the share 1 - k, of its last one the share k,
// which is 1 or 0 as `keeps_h` and `keeps_c` say, or `share_h` and `share_c` where these are NULL.

typedef REAL NAME(vec) __attribute__((vector_size(BYTES)));
typedef WORD NAME(mask) __attribute__((vector_size(BYTES)));
typedef unsigned WORD NAME(bits) __attribute__((vector_size(BYTES)));
typedef REAL NAME(loose) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef unsigned char NAME(flags) __attribute__((vector_size(BYTES / sizeof(REAL)), aligned(1), may_alias));
#define VEC NAME(vec)
#define MASK NAME(mask)
#define LOOSE NAME(loose)
#define LANES ((long)(BYTES / sizeof(REAL)))
#define PANEL (2 * LANES)

INLINE VEC NAME(load)(const REAL *p) { return *(const LOOSE *)p; }
INLINE void NAME(store)(REAL *p, VEC x) { *(LOOSE *)p = x; }
INLINE VEC NAME(fill)(REAL x) { return (VEC){0} + x; }
INLINE VEC NAME(choose)(MASK where, VEC a, VEC b) { return (VEC)((where & (MASK)a) | (~where & (MASK)b)); }
#define LOAD NAME(load)
#define STORE NAME(store)
#define FILL NAME(fill)

// NaN stays NaN: divergence must be seen
INLINE VEC NAME(clamp)(VEC x, REAL most) {
#if defined(__AVX512F__) && SINGLE
  return (VEC)_mm512_max_ps((__m512)FILL(-most), _mm512_min_ps((__m512)FILL(most), (__m512)x));
#elif defined(__AVX__) && SINGLE
  return (VEC)_mm256_max_ps((__m256)FILL(-most), _mm256_min_ps((__m256)FILL(most), (__m256)x));
#else
  x = NAME(choose)(x > most, FILL(most), x);
  return NAME(choose)(x < -most, FILL(-most), x);
#endif
}

// ---- functions of a gate: exp by 2^n (1 + q(f)), f at most half of log 2 (Cody and Waite 1980); NaN stays NaN -------

// e^x - 1 as scale q + (scale - 1): for small x, where scale is 1, with every digit of q
INLINE void NAME(exponent)(VEC x, VEC *scale, VEC *q) {
  x = NAME(clamp)(x, LARGEST);
  VEC shifted = x * (REAL)1.44269504088896340736 + (REAL)ROUNDING;  // the integer n stands in its lowest bits
  VEC n = shifted - (REAL)ROUNDING;
  VEC f = x - n * (REAL)LOG2_HIGH;
  f = f - n * (REAL)LOG2_LOW;
  // sum of f^(k-1) / k! in pairs of pairs (Estrin 1960): half as long a chain as one after the other
  VEC f2 = f * f, f4 = f2 * f2;
#define PAIR(k) ((REAL)INVERSE_FACTORIAL[k] + (REAL)INVERSE_FACTORIAL[(k) + 1] * f)
  VEC p = (PAIR(1) + PAIR(3) * f2) + (PAIR(5) + PAIR(7) * f2) * f4;
  if (TERMS > 8) p = p + ((PAIR(9) + PAIR(11) * f2) + (REAL)INVERSE_FACTORIAL[13] * f4) * (f4 * f4);
#undef PAIR
  *q = p * f;
  *scale = (VEC)(((NAME(bits))shifted + EXPONENT_BIAS) << MANTISSA);
}

INLINE VEC NAME(reciprocal)(VEC x) {
#if defined(__AVX512F__) && SINGLE
  VEC r = (VEC)_mm512_rcp14_ps((__m512)x);
  return r * ((REAL)2 - x * r);
#else
  return (REAL)1 / x;
#endif
}

INLINE VEC NAME(sigmoid)(VEC x) {
  VEC scale, q;
  NAME(exponent)(-x, &scale, &q);
  return NAME(reciprocal)((REAL)1 + (scale * q + scale));
}

INLINE VEC NAME(tanh)(VEC x) {
  VEC scale, q;
  x = NAME(clamp)(x, TANH_LARGEST);
  NAME(exponent)(x + x, &scale, &q);
  VEC less = scale * q + (scale - (REAL)1);
  return less * NAME(reciprocal)(less + (REAL)2);
}
#define SIGMOID NAME(sigmoid)
#define TANH NAME(tanh)

// ---- products with weights that are packed once: panels of PANEL columns, each (rows of the weights, PANEL) ---------

// rows x COLUMNS vectors of C, in registers; ADD: what is in C is added to
#define BLOCK(ROWS, COLUMNS)                                                                                     \
  INLINE void NAME(block_##ROWS##_##COLUMNS)(const REAL *A, long lda, long K, const REAL *P, REAL *C, long ldc, int add) { \
    VEC sum[ROWS][COLUMNS];                                                                                      \
    UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLUMNS; j++)                               \
        sum[i][j] = add ? LOAD(C + i * ldc + j * LANES) : FILL(0);                                               \
    for (long k = 0; k < K; k++) {                                                                               \
      VEC w[COLUMNS];                                                                                            \
      UNROLL for (int j = 0; j < COLUMNS; j++) w[j] = LOAD(P + (j / 2) * PANEL * K + k * PANEL + (j % 2) * LANES); \
      UNROLL for (int i = 0; i < ROWS; i++) {                                                                    \
        VEC a = FILL(A[i * lda + k]);                                                                            \
        UNROLL for (int j = 0; j < COLUMNS; j++) sum[i][j] += a * w[j];                                          \
      }                                                                                                          \
    }                                                                                                            \
    UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < COLUMNS; j++)                               \
        STORE(C + i * ldc + j * LANES, sum[i][j]);                                                               \
  }
BLOCK(8, 2)
BLOCK(6, 2)
BLOCK(4, 2)
BLOCK(2, 2)
BLOCK(1, 2)
BLOCK(1, 8)

// C (M, N) = or += A (M, K) times packed weights (K, N). Every sum runs over k in order, however the rows are split.
INLINE void NAME(product)(const REAL *A, long lda, long M, long K, const REAL *P, long N, REAL *C, long ldc, int add) {
  long n = 0;
  for (; M == 1 && n + 4 * PANEL <= N; n += 4 * PANEL, P += 4 * PANEL * K)
    NAME(block_1_8)(A, lda, K, P, C + n, ldc, add);
  for (; n < N; n += PANEL, P += PANEL * K) {
    long m = 0;
#if REGISTERS == 32
    for (; m + 8 <= M; m += 8) NAME(block_8_2)(A + m * lda, lda, K, P, C + m * ldc + n, ldc, add);
#else
    for (; m + 6 <= M && M - m != 8; m += 6) NAME(block_6_2)(A + m * lda, lda, K, P, C + m * ldc + n, ldc, add);
#endif
    for (; m + 4 <= M; m += 4) NAME(block_4_2)(A + m * lda, lda, K, P, C + m * ldc + n, ldc, add);
    for (; m + 2 <= M; m += 2) NAME(block_2_2)(A + m * lda, lda, K, P, C + m * ldc + n, ldc, add);
    for (; m < M; m++) NAME(block_1_2)(A + m * lda, lda, K, P, C + m * ldc + n, ldc, add);
  }
}

// W (N, K) at strides `out` and `in` to panels
void NAME(pack)(const REAL *W, long out, long in, long N, long K, REAL *P) {
  for (long n = 0; n < N; n += PANEL)
    for (long k = 0; k < K; k++)
      for (long j = 0; j < PANEL; j++) *P++ = W[(n + j) * out + k * in];
}
long NAME(panel)(void) { return PANEL; }

// ---- the cells ------------------------------------------------------------------------------------------------------

typedef struct {
  long steps, batch, width, order, first;
  const long *lengths;
  REAL *gates;         // forward: in pre-activations, out gates; backward: gates
  const REAL *table;   // NULL, or (symbols, gates x width): the pre-activations of each symbol, instead of those in gates
  const long *symbols; // (steps, batch), in the order of memory
  const REAL *packed;  // recurrent weights
  const REAL *bias;    // GRU: of the candidate's recurrent part; LSTM: NULL or the three peepholes
  const REAL *h0, *c0; // (batch, width) before the first step
  REAL *h, *c, *extra; // (steps, batch, width): states; GRU: extra is U_n h + b
  const REAL *dh;      // backward: gradients of h
  REAL *dgates;        // (steps, batch, gates x width), of the GRU four
  REAL *d, *dc;        // (batch, width) gradients of the states that are carried from step to step
  const REAL *seen;    // NULL, or (batch, width): what the state is multiplied by before the recurrent product
  REAL *spare;         // (batch, width), where there is `seen`
  const unsigned char *keeps_h, *keeps_c; // NULL, or (steps, batch, width): 1 where a unit keeps its state, its cell
  double share_h, share_c;                // the share that it keeps of them where these are NULL
} NAME(Call);
#define CALL NAME(Call)

INLINE int NAME(ended)(const CALL *q, long t, long b) { return q->lengths && q->first + q->order * t >= q->lengths[b]; }

INLINE void NAME(zero)(REAL *p, long n) { memset(p, 0, n * sizeof(REAL)); }

INLINE int NAME(zoned)(const CALL *q) { return q->keeps_h || q->keeps_c || q->share_h > 0 || q->share_c > 0; }

// the share of its last value that each unit keeps; with 1 and 0 what is mixed is the one or the other to the last bit
INLINE VEC NAME(share)(const unsigned char *keeps, long at, double share) {
  if (!keeps) return FILL((REAL)share);
  // the bits of 1 under a mask; what `__builtin_convertvector` of bytes takes gcc one after the other
#if defined(__AVX512F__) && SINGLE
  MASK flags = (MASK)_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(keeps + at)));
#elif defined(__AVX2__) && SINGLE
  MASK flags = (MASK)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(keeps + at)));
#else
  MASK flags = __builtin_convertvector(*(const NAME(flags) *)(keeps + at), MASK);
#endif
  return (VEC)(-flags & (MASK)FILL(1));
}
INLINE VEC NAME(mix)(VEC k, VEC last, VEC next) { return k * last + ((REAL)1 - k) * next; }
#define SHARE NAME(share)
#define MIX NAME(mix)

// the rows lo to hi of the state as the recurrent product reads them
INLINE const REAL *NAME(masked)(const CALL *q, const REAL *before, long lo, long hi) {
  if (!q->seen) return before;
  for (long i = lo * q->width; i < hi * q->width; i += LANES) STORE(q->spare + i, LOAD(before + i) * LOAD(q->seen + i));
  return q->spare;
}

// d = or += the gradients (hi - lo, N) at g, through the recurrent product
INLINE void NAME(carry)(const CALL *q, const REAL *g, long ldg, long N, long lo, long hi, int add) {
  long H = q->width;
  if (!q->seen) {
    NAME(product)(g, ldg, hi - lo, N, q->packed, H, q->d + lo * H, H, add);
    return;
  }
  NAME(product)(g, ldg, hi - lo, N, q->packed, H, q->spare + lo * H, H, 0);
  for (long i = lo * H; i < hi * H; i += LANES) {
    VEC d = LOAD(q->spare + i) * LOAD(q->seen + i);
    STORE(q->d + i, add ? LOAD(q->d + i) + d : d);
  }
}

// the pre-activations of step t in rows lo to hi, but for the recurrent part
INLINE REAL *NAME(open)(const CALL *q, long t, long N, long lo, long hi) {
  REAL *g = q->gates + q->order * t * q->batch * N;
  if (q->table)
    for (long b = lo; b < hi; b++)
      memcpy(g + b * N, q->table + q->symbols[q->order * t * q->batch + b] * N, N * sizeof(REAL));
  return g;
}

static void NAME(rnn_forward)(const void *call, long lo, long hi) {
  const CALL *q = call;
  long H = q->width, row = q->batch * H;
  int zoned = NAME(zoned)(q);
  for (long t = 0; t < q->steps; t++) {
    REAL *g = NAME(open)(q, t, H, lo, hi), *h = q->h + q->order * t * row;
    const REAL *before = t ? h - q->order * row : q->h0, *seen = NAME(masked)(q, before, lo, hi);
    NAME(product)(seen + lo * H, H, hi - lo, H, q->packed, H, g + lo * H, H, 1);
    for (long i = lo * H; i < hi * H; i += LANES) {
      VEC h1 = TANH(LOAD(g + i));
      if (zoned) {
        STORE(g + i, h1);  // for the backward pass, which can't read it in h
        h1 = MIX(SHARE(q->keeps_h, q->order * t * row + i, q->share_h), LOAD(before + i), h1);
      }
      STORE(h + i, h1);
    }
    for (long b = lo; q->lengths && b < hi; b++)
      if (NAME(ended)(q, t, b)) NAME(zero)(h + b * H, H);
  }
}

static void NAME(rnn_backward)(const void *call, long lo, long hi) {
  const CALL *q = call;
  long H = q->width, row = q->batch * H;
  int zoned = NAME(zoned)(q);
  const REAL *states = zoned ? q->gates : q->h;
  for (long t = q->steps - 1; t >= 0; t--) {
    long at = q->order * t * row;
    REAL *g = q->dgates + at;
    for (long b = lo; b < hi; b++) {
      if (NAME(ended)(q, t, b)) {
        NAME(zero)(g + b * H, H), NAME(zero)(q->d + b * H, H);
        continue;
      }
      for (long i = b * H; i < (b + 1) * H; i += LANES) {
        VEC h = LOAD(states + at + i), d = LOAD(q->d + i) + LOAD(q->dh + at + i);
        if (zoned) {
          VEC k = SHARE(q->keeps_h, at + i, q->share_h);
          STORE(q->d + i, k * d);
          d *= (REAL)1 - k;
        }
        STORE(g + i, d * ((REAL)1 - h * h));
      }
    }
    NAME(carry)(q, g + lo * H, H, H, lo, hi, zoned);
  }
}

static void NAME(lstm_forward)(const void *call, long lo, long hi) {
  const CALL *q = call;
  long H = q->width, N = 4 * H, row = q->batch * H;
  const REAL *peep = q->bias;
  int zoned = NAME(zoned)(q);
  for (long t = 0; t < q->steps; t++) {
    REAL *g = NAME(open)(q, t, N, lo, hi), *h = q->h + q->order * t * row, *c = q->c + q->order * t * row;
    const REAL *before = t ? h - q->order * row : q->h0, *cell = t ? c - q->order * row : q->c0;
    const REAL *seen = NAME(masked)(q, before, lo, hi);
    NAME(product)(seen + lo * H, H, hi - lo, H, q->packed, N, g + lo * N, N, 1);
    for (long b = lo; b < hi; b++) {
      if (NAME(ended)(q, t, b)) {
        NAME(zero)(h + b * H, H), NAME(zero)(c + b * H, H);
        continue;
      }
      REAL *a = g + b * N;
      for (long j = 0; j < H; j += LANES) {
        VEC c0 = LOAD(cell + b * H + j), ai = LOAD(a + j), af = LOAD(a + H + j), ao = LOAD(a + 3 * H + j);
        if (peep) ai += LOAD(peep + j) * c0, af += LOAD(peep + H + j) * c0;
        VEC i = SIGMOID(ai), f = SIGMOID(af), u = TANH(LOAD(a + 2 * H + j)), c1 = f * c0 + i * u;
        if (peep) ao += LOAD(peep + 2 * H + j) * c1;
        VEC o = SIGMOID(ao), h1 = o * TANH(c1);
        STORE(a + j, i), STORE(a + H + j, f), STORE(a + 2 * H + j, u), STORE(a + 3 * H + j, o);
        if (zoned) {
          long s = b * H + j, at = q->order * t * row + s;
          h1 = MIX(SHARE(q->keeps_h, at, q->share_h), LOAD(before + s), h1);
          c1 = MIX(SHARE(q->keeps_c, at, q->share_c), c0, c1);
        }
        STORE(c + b * H + j, c1), STORE(h + b * H + j, h1);
      }
    }
  }
}

static void NAME(lstm_backward)(const void *call, long lo, long hi) {
  const CALL *q = call;
  long H = q->width, N = 4 * H, row = q->batch * H;
  const REAL *peep = q->bias;
  int zoned = NAME(zoned)(q);
  for (long t = q->steps - 1; t >= 0; t--) {
    long at = q->order * t * row;
    const REAL *cell = t ? q->c + at - q->order * row : q->c0;
    REAL *dg = q->dgates + q->order * t * q->batch * N;
    for (long b = lo; b < hi; b++) {
      const REAL *a = q->gates + (q->order * t * q->batch + b) * N;
      REAL *w = dg + b * N;
      if (NAME(ended)(q, t, b)) {
        NAME(zero)(w, N), NAME(zero)(q->d + b * H, H), NAME(zero)(q->dc + b * H, H);
        continue;
      }
      for (long j = 0; j < H; j += LANES) {
        long s = b * H + j;
        VEC i = LOAD(a + j), f = LOAD(a + H + j), u = LOAD(a + 2 * H + j), o = LOAD(a + 3 * H + j);
        VEC c0 = LOAD(cell + s), c1 = LOAD(q->c + at + s), dh = LOAD(q->d + s) + LOAD(q->dh + at + s);
        VEC below = LOAD(q->dc + s), kept = FILL(0);
        if (zoned) {
          VEC kh = SHARE(q->keeps_h, at + s, q->share_h), kc = SHARE(q->keeps_c, at + s, q->share_c);
          STORE(q->d + s, kh * dh);
          kept = kc * below, below *= (REAL)1 - kc, dh *= (REAL)1 - kh;
          c1 = f * c0 + i * u;  // what is kept in c is not the one that the state came from
        }
        VEC th = TANH(c1), d_o = dh * th * o * ((REAL)1 - o), dc = below + dh * o * ((REAL)1 - th * th);
        if (peep) dc += d_o * LOAD(peep + 2 * H + j);
        VEC di = dc * u * i * ((REAL)1 - i), df = dc * c0 * f * ((REAL)1 - f), next = dc * f;
        if (peep) next += di * LOAD(peep + j) + df * LOAD(peep + H + j);
        if (zoned) next += kept;
        STORE(q->dc + s, next);
        STORE(w + j, di), STORE(w + H + j, df), STORE(w + 2 * H + j, dc * i * ((REAL)1 - u * u)), STORE(w + 3 * H + j, d_o);
      }
    }
    NAME(carry)(q, dg + lo * N, N, N, lo, hi, zoned);
  }
}

// The gates lie as n, r, z; their gradients as n, r, z, m, with m = U_n h + b, which r multiplies: W saw the first three,
// U the last three.
static void NAME(gru_forward)(const void *call, long lo, long hi) {
  const CALL *q = call;
  long H = q->width, N = 3 * H, row = q->batch * H;
  int zoned = NAME(zoned)(q);
  for (long t = 0; t < q->steps; t++) {
    REAL *g = NAME(open)(q, t, N, lo, hi), *h = q->h + q->order * t * row, *m = q->extra + q->order * t * row;
    const REAL *before = t ? h - q->order * row : q->h0, *seen = NAME(masked)(q, before, lo, hi);
    NAME(product)(seen + lo * H, H, hi - lo, H, q->packed, 2 * H, g + lo * N + H, N, 1);
    NAME(product)(seen + lo * H, H, hi - lo, H, q->packed + 2 * H * H, H, m + lo * H, H, 0);
    for (long b = lo; b < hi; b++) {
      if (NAME(ended)(q, t, b)) {
        NAME(zero)(h + b * H, H);
        continue;
      }
      REAL *a = g + b * N;
      for (long j = 0; j < H; j += LANES) {
        long s = b * H + j;
        VEC u = LOAD(m + s) + LOAD(q->bias + j), r = SIGMOID(LOAD(a + H + j)), z = SIGMOID(LOAD(a + 2 * H + j));
        VEC n = TANH(LOAD(a + j) + r * u);
        STORE(m + s, u), STORE(a + j, n), STORE(a + H + j, r), STORE(a + 2 * H + j, z);
        VEC h0 = LOAD(before + s), h1 = n + z * (h0 - n);
        if (zoned) h1 = MIX(SHARE(q->keeps_h, q->order * t * row + s, q->share_h), h0, h1);
        STORE(h + s, h1);
      }
    }
  }
}

static void NAME(gru_backward)(const void *call, long lo, long hi) {
  const CALL *q = call;
  long H = q->width, N = 3 * H, M = 4 * H, row = q->batch * H;
  int zoned = NAME(zoned)(q);
  for (long t = q->steps - 1; t >= 0; t--) {
    long at = q->order * t * row;
    const REAL *before = t ? q->h + at - q->order * row : q->h0;
    REAL *dg = q->dgates + q->order * t * q->batch * M;
    for (long b = lo; b < hi; b++) {
      const REAL *a = q->gates + (q->order * t * q->batch + b) * N;
      REAL *w = dg + b * M;
      if (NAME(ended)(q, t, b)) {
        NAME(zero)(w, M), NAME(zero)(q->d + b * H, H);
        continue;
      }
      for (long j = 0; j < H; j += LANES) {
        long s = b * H + j;
        VEC n = LOAD(a + j), r = LOAD(a + H + j), z = LOAD(a + 2 * H + j), u = LOAD(q->extra + at + s);
        VEC dh = LOAD(q->d + s) + LOAD(q->dh + at + s), kept = FILL(0);
        if (zoned) {
          VEC k = SHARE(q->keeps_h, at + s, q->share_h);
          kept = k * dh, dh *= (REAL)1 - k;
        }
        VEC dn = dh * ((REAL)1 - z) * ((REAL)1 - n * n);
        STORE(w + j, dn), STORE(w + H + j, dn * u * r * ((REAL)1 - r));
        STORE(w + 2 * H + j, dh * (LOAD(before + s) - n) * z * ((REAL)1 - z)), STORE(w + 3 * H + j, dn * r);
        STORE(q->d + s, zoned ? kept + dh * z : dh * z);
      }
    }
    NAME(carry)(q, dg + lo * M + H, M, N, lo, hi, 1);
  }
}

void NAME(run_rnn_forward)(const CALL *q, long threads) { split(NAME(rnn_forward), q, q->batch, threads); }
void NAME(run_rnn_backward)(const CALL *q, long threads) { split(NAME(rnn_backward), q, q->batch, threads); }
void NAME(run_lstm_forward)(const CALL *q, long threads) { split(NAME(lstm_forward), q, q->batch, threads); }
void NAME(run_lstm_backward)(const CALL *q, long threads) { split(NAME(lstm_backward), q, q->batch, threads); }
void NAME(run_gru_forward)(const CALL *q, long threads) { split(NAME(gru_forward), q, q->batch, threads); }
void NAME(run_gru_backward)(const CALL *q, long threads) { split(NAME(gru_backward), q, q->batch, threads); }

// sums (symbols, N) += the rows of g (rows, at stride ld) by their symbol; columns lo to hi are this thread's
typedef struct {
  long rows, N, ld;
  const REAL *g;
  const long *symbols;
  REAL *sums;
} NAME(Scatter);
static void NAME(scatter)(const void *call, long lo, long hi) {
  const NAME(Scatter) *q = call;
  for (long i = 0; i < q->rows; i++) {
    const REAL *from = q->g + i * q->ld;
    REAL *to = q->sums + q->symbols[i] * q->N;
    for (long j = lo; j < hi; j++) to[j] += from[j];
  }
}
void NAME(scatter_rows)(const REAL *g, long rows, long N, long ld, const long *symbols, REAL *sums, long threads) {
  NAME(Scatter) q = {rows, N, ld, g, symbols, sums};
  split(NAME(scatter), &q, N, threads);
}

#undef VEC
#undef MASK
#undef LOOSE
#undef LANES
#undef PANEL
#undef LOAD
#undef STORE
#undef FILL
#undef SIGMOID
#undef TANH
#undef SHARE
#undef MIX
#undef BLOCK
#undef CALL
