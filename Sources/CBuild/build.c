#include "CBuild.h"

// Set by .ci/release through the package's manifest.
#ifndef SMELT_COMMIT
#define SMELT_COMMIT ""
#endif

const char *sk_build_commit(void) { return SMELT_COMMIT; }
