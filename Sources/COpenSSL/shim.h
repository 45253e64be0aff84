// OpenSSL's libcrypto (3.0 or later), for SHA-256 where the system has no CryptoKit. Only the EVP interface is used.
#include <openssl/evp.h>
