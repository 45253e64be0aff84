// Which instruction set runs: chosen once from what the machine has and SMELT_ISA asks for, forced by tests and `bench`. The
// public functions of every dispatched kernel.
#include "table.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

static _Atomic(const sk_table *) current_table;

#if defined(__x86_64__)
// AVX-512 with VNNI, and with VBMI2 besides: the set before with what each changes, put together when the program is loaded, before there is
// a second thread. Most kernels gain nothing by them, and would be the same bytes three times.
static sk_table avx512_vnni, avx512_vbmi2;

static sk_table changed(const sk_table *table, const sk_table *changes) {
  sk_table result = *table;
#define SK_CHANGE(result_type, name, parameters, arguments)                                                          \
  if (changes->name) result.name = changes->name;
  SK_KERNELS(SK_CHANGE)
#undef SK_CHANGE
  if (changes->peak) result.peak = changes->peak;
  if (changes->peak8) result.peak8 = changes->peak8;
  return result;
}

__attribute__((constructor)) static void make_tables(void) {
  avx512_vnni = changed(&sk_table_avx512, &sk_table_avx512_vnni);
  avx512_vbmi2 = changed(&avx512_vnni, &sk_table_avx512_vbmi2);
}
#endif

static const sk_table *table_of(int isa) {
  switch (isa) {
#if defined(__x86_64__)
  case SK_ISA_AVX2: return &sk_table_avx2;
  case SK_ISA_AVX512: return &sk_table_avx512;
  case SK_ISA_AVX512_VNNI: return &avx512_vnni;
  case SK_ISA_AVX512_VBMI2: return &avx512_vbmi2;
#elif defined(__aarch64__)
  case SK_ISA_NEON: return &sk_table_neon;
#endif
  default: return &sk_table_baseline;
  }
}

int sk_isa_available(int isa) {
  switch (isa) {
  case SK_ISA_BASELINE: return 1;
#if defined(__x86_64__) // the compiler's own table of features: asks the operating system for the registers too
  case SK_ISA_AVX2:
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") &&
           __builtin_cpu_supports("popcnt");
  case SK_ISA_AVX512:
    return sk_isa_available(SK_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
  case SK_ISA_AVX512_VNNI: return sk_isa_available(SK_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
  case SK_ISA_AVX512_VBMI2:
    return sk_isa_available(SK_ISA_AVX512_VNNI) && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2");
#elif defined(__aarch64__)
  case SK_ISA_NEON: return 1;
#endif
  default: return 0;
  }
}

int sk_isa_best(void) {
  for (int isa = SK_ISA_NEON; isa > SK_ISA_BASELINE; isa--)
    if (sk_isa_available(isa)) return isa;
  return SK_ISA_BASELINE;
}

const char *sk_isa_word(int isa) {
  switch (isa) {
  case SK_ISA_BASELINE: return "baseline";
  case SK_ISA_AVX2: return "avx2";
  case SK_ISA_AVX512: return "avx512";
  case SK_ISA_AVX512_VNNI: return "avx512_vnni";
  case SK_ISA_AVX512_VBMI2: return "avx512_vbmi2";
  case SK_ISA_NEON: return "neon";
  default: return NULL;
  }
}

int sk_isa_asked(void) {
  const char *word = getenv("SMELT_ISA");
  if (!word || !*word) return SK_ISA_ANY;
  for (int isa = SK_ISA_BASELINE; sk_isa_word(isa); isa++)
    if (strcasecmp(word, sk_isa_word(isa)) == 0) return isa;
  return SK_ISA_UNKNOWN;
}

int sk_isa_chosen(void) {
  const int asked = sk_isa_asked();
  return asked >= 0 && sk_isa_available(asked) ? asked : sk_isa_best();
}

// Every thread that comes here first finds the same table, so the store needs no order.
const sk_table *sk_current_table(void) {
  const sk_table *table = atomic_load_explicit(&current_table, memory_order_relaxed);
  if (table) return table;
  table = table_of(sk_isa_chosen());
  atomic_store_explicit(&current_table, table, memory_order_relaxed);
  return table;
}

int sk_isa_current(void) {
  const sk_table *table = sk_current_table();
  for (int isa = SK_ISA_NEON; isa > SK_ISA_BASELINE; isa--)
    if (sk_isa_available(isa) && table_of(isa) == table) return isa;
  return SK_ISA_BASELINE;
}

void sk_isa_force(int isa) {
  if (sk_isa_available(isa)) atomic_store_explicit(&current_table, table_of(isa), memory_order_relaxed);
}

const char *sk_isa_name(int isa) {
  switch (isa) {
  case SK_ISA_AVX2: return "AVX2";
  case SK_ISA_AVX512: return "AVX-512";
  case SK_ISA_AVX512_VNNI: return "AVX-512 VNNI";
  case SK_ISA_AVX512_VBMI2: return "AVX-512 VBMI2";
  case SK_ISA_NEON: return "NEON";
  default: return "baseline";
  }
}

#define SK_RETURN_void
#define SK_RETURN_float return
#define SK_RETURN_double return
#define SK_RETURN_size_t return
#define SK_RETURN_uint32_t return
#define SK_RETURN_int64_t return
#define SK_RETURN_int return
#define SK_PUBLIC(result, name, parameters, arguments)                                                               \
  result sk_##name parameters { SK_RETURN_##result sk_current_table()->name arguments; }
SK_KERNELS(SK_PUBLIC)

size_t sk_activation_block(int code) {
  switch (code) {
  case SK_CODED_INT8: return PTRDIFF_MAX;
  case SK_CODED_Q8_0:
  case SK_CODED_Q4_0:
  case SK_CODED_Q4_1:
  case SK_CODED_Q5_0:
  case SK_CODED_Q5_1:
  case SK_CODED_Q1_0:
  case SK_CODED_Q2_0:
  case SK_CODED_IQ4_NL:
  case SK_CODED_MXFP4: return 32;
  case SK_CODED_Q2_K:
  case SK_CODED_Q3_K:
  case SK_CODED_Q4_K:
  case SK_CODED_Q5_K:
  case SK_CODED_Q6_K:
  case SK_CODED_IQ4_XS:
  case SK_CODED_TQ1_0:
  case SK_CODED_TQ2_0: return 256;
  default: return 0;
  }
}

float sk_e8m0(uint8_t code) {
  if (code == 0) return 0x1p-127f;
  if (code == 255) return __builtin_nanf("");
  return __builtin_bit_cast(float, (uint32_t)code << 23);
}

static double wall_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The best of many short runs, by the clock on the wall: what else runs on the machine only ever slows one down. (A
// thread's own clock may count too little on a busy virtual machine, and the best run is then one that never was.)
static double best_rate(double (*run)(size_t rounds), double seconds) {
  const double start = wall_seconds();
  size_t rounds = 1000;
  double best = 0, now = start;
  do {
    const double before = now;
    const double operations = run(rounds);
    now = wall_seconds();
    if (now - before < 5e-4) {
      rounds *= 2;
    } else {
      const double rate = operations / (now - before) * 1e-9;
      best = rate > best ? rate : best;
    }
  } while (now - start < seconds || best == 0);
  return best;
}

static double run_f32(size_t rounds) {
  float sink = 0.25f;
  return sk_current_table()->peak(rounds, &sink);
}

static double run_i8(size_t rounds) {
  int8_t sink = 3;
  return sk_current_table()->peak8(rounds, &sink);
}

double sk_peak_f32_gflops(double seconds) { return best_rate(run_f32, seconds); }
double sk_peak_i8_gops(double seconds) { return best_rate(run_i8, seconds); }
