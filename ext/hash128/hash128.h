/* xxh3-128 by the widest vectors that the processor has; nothing else.
 *
 * xxhash chooses its vectors when it is compiled, and a package is compiled for the oldest processors. Half of what an
 * audit takes is this hash, so it is compiled twice, the second time for AVX2, and chosen at run time. */
#ifndef WARMSPARE_HASH128_H
#define WARMSPARE_HASH128_H

#include <stddef.h>
#include <stdint.h>

/* Writes the 16 bytes of the canonical (big-endian) form. */
void warmspare_hash128(const void *data, size_t length, uint8_t *out);
void warmspare_hash128_plain(const void *data, size_t length, uint8_t *out);

/* Whether warmspare_hash128 uses AVX2 here. */
int warmspare_hash128_wide(void);

#endif
