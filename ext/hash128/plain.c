/* The plain build of hash128.h, and the choice between it and the AVX2 one. */
#include "hash128.h"

#include <xxhash.h>

#if defined(__x86_64__) && defined(__GNUC__)
void warmspare_hash128_avx2(const void *data, size_t length, uint8_t *out);

int warmspare_hash128_wide(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}
#else
#define warmspare_hash128_avx2 warmspare_hash128_plain

int warmspare_hash128_wide(void)
{
    return 0;
}
#endif

void warmspare_hash128_plain(const void *data, size_t length, uint8_t *out)
{
    XXH128_canonicalFromHash((XXH128_canonical_t *)out, XXH3_128bits(data, length));
}

void warmspare_hash128(const void *data, size_t length, uint8_t *out)
{
    if (warmspare_hash128_wide())
        warmspare_hash128_avx2(data, length, out);
    else
        warmspare_hash128_plain(data, length, out);
}
