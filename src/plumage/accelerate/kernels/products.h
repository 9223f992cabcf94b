/* Matrix products of a few channels by many, which stay in the cache with what they are made of. */

#pragma once
#include "common.h"

/* Rows of a product computed at once: their sums fill the registers, with room for what is multiplied. */
#define AT_ONCE(VECTORS) ((VECTORS) == 1 ? 8 : 12 / (VECTORS))

/* out = start + a b, of a rows x depth matrix a and a depth x (vectors * LANES) matrix b: a row of a is `a_row` floats after the one
   before it, a column `a_step`. */
INLINE void multiply(const float *a, long a_row, long a_step, const float *b, long b_row, long depth, const float *start, long start_row,
                     float *out, long out_row, const int rows, const int vectors) {
    lanes sum[8][4];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = AT(start, r * start_row + v * LANES);
    for (long k = 0; k < depth; k++)
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
            sum[r][v] += a[r * a_row + k * a_step] * AT(b, k * b_row + v * LANES);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) AT(out, r * out_row + v * LANES) = sum[r][v];
}

/* out += a b, of a rows x depth and a depth x columns matrix; columns: a multiple of LANES. */
INLINE void add_product(const float *a, long a_row, long a_step, const float *b, long b_row, long depth, float *out, long out_row,
                        long rows, long columns) {
    for (long column = 0, left, row; (left = (columns - column) / LANES) > 0;) {
#define MULTIPLY(COUNT, VECTORS)                                                                                  \
    for (; row + COUNT <= rows; row += COUNT)                                                                     \
        multiply(a + row * a_row, a_row, a_step, b + column, b_row, depth, out + row * out_row + column, out_row, \
                 out + row * out_row + column, out_row, COUNT, VECTORS);
#define PRODUCT(VECTORS) {                  \
        row = 0;                            \
        MULTIPLY(AT_ONCE(VECTORS), VECTORS) \
        MULTIPLY(4, VECTORS)                \
        MULTIPLY(1, VECTORS)                \
        column += VECTORS * LANES;          \
    }
        if (left == 3 || left > 4) PRODUCT(3) else if (left > 1) PRODUCT(2) else PRODUCT(1)
#undef PRODUCT
#undef MULTIPLY
    }
}

/* Columns of a matrix whose rows are padded to whole vectors. */
static inline long padded(long inputs) { return (inputs + LANES - 1) / LANES * LANES; }

/* A copy of a rows x columns matrix, each row padded with zeros; to be freed. */
static float *pad(const float *matrix, long rows, long columns) {
    float *copy = calloc(rows * padded(columns), sizeof(float));
    for (long row = 0; row < rows; row++) memcpy(copy + row * padded(columns), matrix + row * columns, columns * sizeof(float));
    return copy;
}
