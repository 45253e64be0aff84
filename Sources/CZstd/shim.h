// ZSTD_c_literalCompressionMode is declared in the static-only part of the header.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
