/* The AVX2 build of hash128.h; reached only where the processor has it. */
#if defined(__x86_64__) && defined(__GNUC__)
#pragma GCC target("avx2")
#define XXH_VECTOR 2 /* XXH_AVX2 */
#include "hash128.h"

#include <xxhash.h>

void warmspare_hash128_avx2(const void *data, size_t length, uint8_t *out);

void warmspare_hash128_avx2(const void *data, size_t length, uint8_t *out)
{
    XXH128_canonicalFromHash((XXH128_canonical_t *)out, XXH3_128bits(data, length));
}
#else
typedef int warmspare_nothing_here;
#endif
