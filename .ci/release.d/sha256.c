// The functions of OpenSSL's EVP interface that Sources/SmeltStorage/Bytes/SHA256.swift calls, over libcrypto's own SHA-256. Linked into a
// release before libcrypto.a, so that of 4 MB of ciphers, providers and configuration the hash alone comes along. A release holds no
// other digest, and its copy of libcrypto reads no configuration.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <stdlib.h>

typedef SHA256_CTX context;

context *EVP_MD_CTX_new(void) { return calloc(1, sizeof(context)); }
void EVP_MD_CTX_free(context *state) { free(state); }
const void *EVP_sha256(void) { return NULL; }
int EVP_DigestInit_ex(context *state, const void *digest, void *engine) {
  return digest == NULL && engine == NULL ? SHA256_Init(state) : 0;
}
int EVP_MD_CTX_copy_ex(context *to, const context *from) {
  *to = *from;
  return 1;
}
int EVP_DigestUpdate(context *state, const void *bytes, size_t count) { return SHA256_Update(state, bytes, count); }
int EVP_DigestFinal_ex(context *state, unsigned char *digest, unsigned *count) {
  if (count) *count = SHA256_DIGEST_LENGTH;
  return SHA256_Final(digest, state);
}
