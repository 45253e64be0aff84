// What a release says of how it was built.
#ifndef SMELT_CBUILD_H
#define SMELT_CBUILD_H

// The commit that the program was built from; an empty string where the build did not say.
const char *sk_build_commit(void);

#endif
