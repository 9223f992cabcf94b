/* The loader's kernels: normalise and resample photos. */

#include "common.h"

/* y = x * scale + offset, with scale and offset per position in the row. */
void normalise(const unsigned char *x, float *y, long rows, long values, const float *scale, const float *offset, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++) {
        const unsigned char *in = x + row * values;
        float *out = y + row * values;
#pragma omp simd
        for (long i = 0; i < values; i++) out[i] = in[i] * scale[i] + offset[i];
    }
}

/* Pillow's filters: the triangle, or Keys' cubic with a = -1/2. Each product and sum is rounded as in Pillow. */
#ifdef __clang__
#define AS_WRITTEN
#pragma clang fp contract(off)
#else
#define AS_WRITTEN __attribute__((noinline, optimize("fp-contract=off")))
#endif
AS_WRITTEN static double filter_at(double x, int cubic) {
    x = fabs(x);
    if (!cubic) return x < 1 ? 1 - x : 0;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/* One side of the resampling. Each of `size` results starts at pixel `first` and has `room` fixed-point weights that sum to 2^22. */
typedef struct {
    long size, room, used; /* used: the largest number of non-zero weights */
    int *first, *weights;
} Side;
#define BITS 22

/* Weights for `size` results from `start` to `stop` on a side of `pixels`. */
AS_WRITTEN static Side weigh(long pixels, float start, float stop, long size, int cubic) {
    double scale = (double)(stop - start) / size, wide = scale > 1 ? scale : 1, reach = (cubic ? 2 : 1) * wide, inverse = 1 / wide;
    Side side = {size, (long)ceil(reach) * 2 + 1, 1};
    double *exact = malloc(side.room * sizeof(double));
    side.first = malloc(size * (1 + side.room) * sizeof(int));
    side.weights = side.first + size;
    for (long at = 0; at < size; at++) {
        double centre = start + (at + 0.5) * scale, sum = 0;
        int from = most(0, (int)(centre - reach + 0.5)), count = (int)least(pixels, (int)(centre + reach + 0.5)) - from;
        for (int i = 0; i < count; i++) sum += exact[i] = filter_at((i + from - centre + 0.5) * inverse, cubic);
        side.first[at] = from;
        for (int i = 0; i < side.room; i++) {
            double share = i >= count ? 0 : sum != 0 ? exact[i] / sum : exact[i];
            int weight = (int)((share < 0 ? -0.5 : 0.5) + share * (1 << BITS));
            side.weights[at * side.room + i] = weight;
            side.used = weight ? most(side.used, i + 1) : side.used;
        }
    }
    free(exact);
    return side;
}

/* A weighted sum as a byte. */
INLINE unsigned char to_byte(int sum) {
    int value = sum >> BITS;
    value = value > 0 ? value : 0; /* in two steps: clamping both ends at once is slower */
    return (unsigned char)(value < 255 ? value : 255);
}

/* The most common numbers of weights are constants to the compiler. */
#define PER_COUNT(COUNT, MORE) \
    switch (COUNT) { WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6) default: MORE; }

typedef int colours __attribute__((vector_size(16), aligned(4), may_alias)); /* three colours; the fourth value is ignored */

/* Resample a row of pixels, each from `count` of the input row. */
INLINE void across_row(const int *row, int *out, const Side *side, int mirrored, const long count) {
    for (long column = 0; column < side->size; column++) {
        long from = mirrored ? side->size - 1 - column : column;
        const int *in = row + side->first[from] * 3L, *weight = side->weights + from * side->room;
        colours sum = (colours){0} + (1 << (BITS - 1));
        for (long i = 0; i < count; i++) sum += weight[i] * *(const colours *)(in + i * 3);
        *(colours *)(out + column * 3) = sum;
    }
}

/* Combine `count` rows of bytes into one. */
INLINE void down_row(const unsigned char *const *rows, unsigned char *out, const int *weight, long values, const long count) {
#pragma omp simd
    for (long k = 0; k < values; k++) {
        int sum = 1 << (BITS - 1);
        UNROLL for (long i = 0; i < count; i++) sum += weight[i] * rows[i][k];
        out[k] = to_byte(sum);
    }
}

/* The same for more rows than there are registers for weights: row by row. */
static void down_many(const unsigned char *const *rows, unsigned char *out, const int *weight, long values, long count, int *sums) {
    for (long k = 0; k < values; k++) sums[k] = 1 << (BITS - 1);
    for (long i = 0; i < count; i++) {
        const unsigned char *in = rows[i];
#pragma omp simd
        for (long k = 0; k < values; k++) sums[k] += weight[i] * in[k];
    }
#pragma omp simd
    for (long k = 0; k < values; k++) out[k] = to_byte(sums[k]);
}

/* Resample a box of `down` x `across` RGB pixels, whose rows are `stride` bytes apart, to size x size, optionally mirrored. Same bytes as
   Pillow: first across, rounded to bytes, then down; when it shrinks, each result averages all pixels that it covers. */
void resample(const unsigned char *x, long stride, long down, long across, float left, float top, float right, float bottom,
              unsigned char *y, long size, int cubic, int mirrored) {
    Side wide = weigh(across, left, right, size, cubic), high = weigh(down, top, bottom, size, cubic);
    long values = size * 3, held = high.used, next = 0;
    /* `room` pixels more than a row: zero weights reach beyond its end. */
    int *row = calloc((across + wide.room + 1) * 3 + values + 1, sizeof(int)), *sums = row + (across + wide.room + 1) * 3;
    unsigned char *ring = malloc(held * values); /* the latest resampled rows, in the cache */
    const unsigned char **rows = malloc(held * sizeof(*rows));
    for (long at = 0; at < size; at++) {
        long first = high.first[at], count = least(held, down - first);
        for (next = most(next, first); next < first + count; next++) {
            const unsigned char *in = x + next * stride;
#pragma omp simd
            for (long i = 0; i < across * 3; i++) row[i] = in[i];
#define WITH(COUNT) case COUNT: across_row(row, sums, &wide, mirrored, COUNT); break;
            PER_COUNT(wide.used, across_row(row, sums, &wide, mirrored, wide.used))
#undef WITH
            unsigned char *out = ring + next % held * values;
#pragma omp simd
            for (long k = 0; k < values; k++) out[k] = to_byte(sums[k]);
        }
        for (long i = 0; i < count; i++) rows[i] = ring + (first + i) % held * values;
        const int *weight = high.weights + at * high.room;
#define WITH(COUNT) case COUNT: down_row(rows, y + at * values, weight, values, COUNT); break;
        PER_COUNT(count, down_many(rows, y + at * values, weight, values, count, sums))
#undef WITH
    }
    free(rows);
    free(ring);
    free(row);
    free(high.first);
    free(wide.first);
}
