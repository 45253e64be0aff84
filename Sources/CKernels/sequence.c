// How much scratch the kernels of sequence.h need.
#include "sequence_layout.h"

size_t sk_mixing_floats(const sk_mixing *m) {
  const sk_layout l = layout_of(m, NULL);
  return l.floats;
}
