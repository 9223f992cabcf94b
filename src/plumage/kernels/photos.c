/* The loader's loops: random crops resampled, photos normalised. */

#include "common.h"

/* y = x * scale + offset, a value of a row its own. */
void normalise(const unsigned char *x, float *y, long rows, long values, const float *scale, const float *offset, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++) {
        const unsigned char *in = x + row * values;
        float *out = y + row * values;
#pragma omp simd
        for (long i = 0; i < values; i++) out[i] = in[i] * scale[i] + offset[i];
    }
}

typedef float colours __attribute__((vector_size(16), aligned(4), may_alias)); /* three, and one that is of no account */

/* What Pillow resamples with: the triangle, or Keys' cubic with a = -1/2. */
static inline float filter_at(float x, int cubic) {
    x = fabsf(x);
    if (!cubic) return x < 1.f ? 1.f - x : 0.f;
    if (x < 1.f) return (1.5f * x - 2.5f) * x * x + 1.f;
    return x < 2.f ? ((-0.5f * x + 2.5f) * x - 4.f) * x + 2.f : 0.f;
}

/* For each of `size` results the first of `from` values and the weights of `room` from there on; how many of them are not zero at the
   most. */
static long weigh(long from, long size, long room, int cubic, long *first, float *weights) {
    long used = 1;
    float scale = (float)from / size, wide = scale > 1.f ? scale : 1.f, reach = (cubic ? 2.f : 1.f) * wide;
    for (long at = 0; at < size; at++) {
        float centre = (at + 0.5f) * scale, sum = 0;
        long start = (long)fmaxf(0.f, centre - reach + 0.5f), stop = least(from, (long)(centre + reach + 0.5f));
        first[at] = start;
        for (long i = 0; i < room; i++) {
            float weight = start + i < stop ? filter_at((start + i - centre + 0.5f) / wide, cubic) : 0.f;
            weights[at * room + i] = weight;
            sum += weight;
            used = weight != 0.f ? most(used, i + 1) : used;
        }
        for (long i = 0; i < room; i++) weights[at * room + i] /= sum;
    }
    return used;
}

/* A row of `size` pixels from `taps` of another's each; what is at `weight` begins at the pixels `first`. */
INLINE void mix(const float *row, float *out, const long *first, const float *weights, long room, long size, int mirrored,
                const long taps) {
    for (long column = 0; column < size; column++) {
        long from = mirrored ? size - 1 - column : column;
        const float *in = row + first[from] * 3, *weight = weights + from * room;
        colours sum = {0};
        for (long i = 0; i < taps; i++) sum += weight[i] * *(const colours *)(in + i * 3);
        *(colours *)(out + column * 3) = sum;
    }
}

/* `down` x `across` pixels of three bytes, their rows `stride` bytes apart, to size x size of them, mirrored or not; where it shrinks,
   each result is a mean of all that it covers. */
void resample(const unsigned char *x, long stride, long down, long across, unsigned char *y, long size, int cubic, int mirrored) {
    long rooms[2], sides[2] = {down, across};
    for (int axis = 0; axis < 2; axis++) {
        float scale = (float)sides[axis] / size;
        rooms[axis] = (long)ceilf((cubic ? 4.f : 2.f) * (scale > 1.f ? scale : 1.f)) + 2;
    }
    long *firsts = malloc(2 * size * sizeof(long)), width = across * 3;
    /* A row takes `rooms` more values, as weights that are zero reach beyond its end. */
    float *weights = malloc((size * (rooms[0] + rooms[1]) + width + (rooms[1] + 2) * 3 + size * 3 + 1) * sizeof(float));
    float *columns = weights + size * rooms[0], *row = columns + size * rooms[1], *made = row + width + (rooms[1] + 2) * 3;
    weigh(down, size, rooms[0], cubic, firsts, weights);
    long taps = weigh(across, size, rooms[1], cubic, firsts + size, columns);
    memset(row + width, 0, (rooms[1] + 2) * 3 * sizeof(float));
    for (long at = 0; at < size; at++) {
        memset(row, 0, width * sizeof(float));
        for (long i = 0; i < rooms[0] && firsts[at] + i < down; i++) {
            const unsigned char *in = x + (firsts[at] + i) * stride;
            float weight = weights[at * rooms[0] + i];
            if (weight == 0.f) continue;
#pragma omp simd
            for (long k = 0; k < width; k++) row[k] += weight * in[k];
        }
#define WITH(TAPS) case TAPS: mix(row, made, firsts + size, columns, rooms[1], size, mirrored, TAPS); break;
        switch (taps) {
            WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6)
            default: mix(row, made, firsts + size, columns, rooms[1], size, mirrored, taps);
        }
#undef WITH
        unsigned char *out = y + at * size * 3;
#pragma omp simd
        for (long k = 0; k < size * 3; k++) {
            float value = made[k] + 0.5f;
            out[k] = (unsigned char)(int)(value < 0.f ? 0.f : value > 255.f ? 255.f : value);
        }
    }
    free(weights);
    free(firsts);
}
