/* A block of an EfficientNet in evaluation in one pass for each photo: what it makes in between stays in the processor's cache, a few
   rows of it where no squeeze-and-excitation waits for all.
   Maps are floats, n x height x width x channels. Batch norms are in the weights and offsets.
   Weights of pointwise convolutions are in blocks of outputs: outputs / BLOCK (rounded up) x inputs x BLOCK, and offsets as long. */

#include "common.h"

#ifdef __AVX512F__
#define TALL 14 /* rows and blocks of a matrix product that are summed in registers; maps are 7, 14, 28 ... wide at 224 pixels */
#define WIDE 2
#define COLUMNS 7 /* of a depthwise convolution; each tap is loaded once for all of them */
#else
#define TALL (LANES == 8 ? 6 : 4)
#define WIDE 1
#define COLUMNS (LANES == 8 ? 4 : 2)
#endif
#define IN_CACHE 32768 /* values of a map that are made before they are projected */

/* `tall` rows of `multiply`, `wide` blocks of each. */
INLINE void tile(const float *in, long depth, const float *weight, const float *offset, float *out, long left, long row_step,
                 long block_step, const int tall, const int wide) {
    lanes sum[TALL][WIDE * VECTORS];
    UNROLL for (int m = 0; m < tall; m++)
        UNROLL for (int v = 0; v < wide * VECTORS; v++) sum[m][v] = AT(offset, v * LANES);
    for (long k = 0; k < depth; k++) {
        lanes w[WIDE * VECTORS];
        UNROLL for (int v = 0; v < wide * VECTORS; v++) w[v] = AT(weight, (v / VECTORS * depth + k) * BLOCK + v % VECTORS * LANES);
        UNROLL for (int m = 0; m < tall; m++)
            UNROLL for (int v = 0; v < wide * VECTORS; v++) sum[m][v] += w[v] * in[m * depth + k];
    }
    UNROLL for (int m = 0; m < tall; m++)
        UNROLL for (int b = 0; b < wide; b++) {
            float *to = out + m * row_step + b * block_step, value[BLOCK];
            if (left >= (b + 1) * BLOCK)
                UNROLL for (int v = 0; v < VECTORS; v++) AT(to, v * LANES) = sum[m][b * VECTORS + v];
            else {
                UNROLL for (int v = 0; v < VECTORS; v++) AT(value, v * LANES) = sum[m][b * VECTORS + v];
                memcpy(to, value, (left - b * BLOCK) * sizeof(float));
            }
        }
}

static void activate_all(float *x, long count, int act) {
#define LOOP(ACT) _Pragma("omp simd") for (long i = 0; i < count; i++) x[i] = activate(x[i], ACT)
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* out = in x weight + offset: from rows of `depth` values to rows of `width`, block b of row r at r * row_step + b * block_step; activated
   where row_step is BLOCK. */
static void multiply(const float *in, long rows, long depth, const float *weight, const float *offset, float *out, long width,
                     long row_step, long block_step, int act) {
    for (long c = 0; c < width;) {
        const int wide = width - c > BLOCK && WIDE == 2 ? 2 : 1;
        const float *w = weight + c * depth;
        float *to = out + c / BLOCK * block_step;
        long row = 0;
#define TILES(HIGH, BROAD)                  \
    for (; row + HIGH <= rows; row += HIGH) \
        tile(in + row * depth, depth, w, offset + c, to + row * row_step, width - c, row_step, block_step, HIGH, BROAD);
#define ALL(BROAD) TILES(TALL, BROAD) TILES(TALL / 2, BROAD) TILES(2, BROAD) TILES(1, BROAD)
        if (wide == WIDE) {
            ALL(WIDE)
        } else {
            ALL(1)
        }
#undef ALL
#undef TILES
        for (int i = 0; act != NONE && i < wide; i++) activate_all(to + i * block_step, rows * BLOCK, act);
        c += wide * BLOCK;
    }
}

/* As in kernels/inference.py. */
typedef struct {
    long photos, height, width, channels, wide, out_height, out_width, out_channels, kernel, stride, pad_height, pad_width, squeezed;
    int before, act, skips, threads;
    const float *expand, *offset_before, *taps, *offset, *reduce, *reduce_bias, *excite, *excite_bias, *project, *project_offset;
} Block;

/* A row of the map, expanded or not, activated, as block after block of channels, each `room` floats from the last. */
static void read_row(const Block *b, const float *x, float *row, long room) {
    if (b->expand) {
        multiply(x, b->width, b->channels, b->expand, b->offset_before, row, b->wide, BLOCK, room, b->before);
        return;
    }
    for (long c = 0; c < b->wide; c += BLOCK) {
        float *to = row + c / BLOCK * room;
        for (long column = 0; column < b->width; column++)
#pragma omp simd
            for (int k = 0; k < BLOCK; k++) to[column * BLOCK + k] = x[column * b->wide + c + k] + b->offset_before[c + k];
        activate_all(to, b->width * BLOCK, b->before);
    }
}

/* An output row of BLOCK channels from the `kernel` rows `from`, each with its padding; NULL is a row of zeros. */
INLINE void convolve_row(float *const *from, const float *taps, const float *offset, float *out, long width, const int kernel,
                         const int stride) {
    long column = 0;
#define COLUMNS_OF(COUNT)                                                                                                  \
    for (; column + COUNT <= width; column += COUNT) {                                                                     \
        lanes sum[COUNT][VECTORS];                                                                                         \
        UNROLL for (int m = 0; m < COUNT; m++) UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] = AT(offset, v * LANES); \
        for (int i = 0; i < kernel; i++) {                                                                                 \
            if (!from[i]) continue;                                                                                        \
            const float *row = from[i] + column * stride * BLOCK, *tap = taps + i * kernel * BLOCK;                        \
            UNROLL for (int j = 0; j < kernel; j++) UNROLL for (int v = 0; v < VECTORS; v++) {                             \
                lanes weight = AT(tap, j * BLOCK + v * LANES);                                                             \
                UNROLL for (int m = 0; m < COUNT; m++) sum[m][v] += AT(row, (m * stride + j) * BLOCK + v * LANES) * weight; \
            }                                                                                                              \
        }                                                                                                                  \
        UNROLL for (int m = 0; m < COUNT; m++) UNROLL for (int v = 0; v < VECTORS; v++)                                    \
            AT(out, (column + m) * BLOCK + v * LANES) = sum[m][v];                                                         \
    }
    COLUMNS_OF(COLUMNS) COLUMNS_OF(2) COLUMNS_OF(1)
#undef COLUMNS_OF
}

/* A row of BLOCK channels activated, in their place in the map, and each channel's sum. */
static void finish_row(const float *made, float *map, double *sums, long width, long wide, int act) {
    float sum[BLOCK] = {0};
#define LOOP(ACT)                                                  \
    for (long column = 0; column < width; column++)                \
        _Pragma("omp simd") for (int k = 0; k < BLOCK; k++) {      \
            float value = activate(made[column * BLOCK + k], ACT); \
            sum[k] += value;                                       \
            map[column * wide + k] = value;                        \
        }
    PER_ACTIVATION(LOOP)
#undef LOOP
    for (int k = 0; k < BLOCK; k++) sums[k] += sum[k];
}

/* The results of `count` pixels from their map; x is the block's input there. */
static void project(const Block *b, const float *map, const float *weight, const float *x, float *y, long count) {
    multiply(map, count, b->wide, weight, b->project_offset, y, b->out_channels, b->out_channels, BLOCK, NONE);
    if (b->skips)
#pragma omp simd
        for (long i = 0; i < count * b->out_channels; i++) y[i] += x[i];
}

/* The rows `first` to `stop` of the activated depthwise convolution of a photo x: into its map, with each channel's sum over them, or,
   where nothing waits for the sums, few at a time, and projected to y while they are in the cache. */
static void convolve(const Block *b, const float *x, float *map, double *sums, float *y, long first, long stop) {
    long room = (most(b->width, (b->out_width - 1) * b->stride - b->pad_width + b->kernel) + b->pad_width) * BLOCK;
    long row_room = b->wide / BLOCK * room, values = b->out_width * b->wide, few = b->squeezed ? 0 : most(1, IN_CACHE / values);
    float *rows = calloc(b->kernel * row_room + b->out_width * BLOCK + few * values, sizeof(float)), *from[5];
    float *made = rows + b->kernel * row_room, *some = made + b->out_width * BLOCK;
    memset(sums, 0, b->wide * sizeof(double));
    for (long at = first, read = most(0, at * b->stride - b->pad_height), since = first; at < stop; at++) {
        long top = at * b->stride - b->pad_height;
        for (; read < least(b->height, top + b->kernel); read++)
            read_row(b, x + read * b->width * b->channels, rows + read % b->kernel * row_room + b->pad_width * BLOCK, room);
        float *to = few ? some + (at - since) * values : map + at * values;
        for (long c = 0; c < b->wide; c += BLOCK) {
            for (long i = 0; i < b->kernel; i++)
                from[i] = top + i < 0 || top + i >= b->height ? NULL : rows + (top + i) % b->kernel * row_room + c / BLOCK * room;
            const float *taps = b->taps + c * b->kernel * b->kernel;
#define WITH(KERNEL, STRIDE) \
    if (b->kernel == KERNEL && b->stride == STRIDE) convolve_row(from, taps, b->offset + c, made, b->out_width, KERNEL, STRIDE);
            WITH(3, 1) WITH(3, 2) WITH(5, 1) WITH(5, 2)
#undef WITH
            finish_row(made, to + c, sums + c, b->out_width, b->wide, b->act);
        }
        if (few && (at + 1 == stop || at + 1 - since == few)) {
            long pixel = since * b->out_width, count = (at + 1 - since) * b->out_width;
            project(b, some, b->project, x + pixel * b->channels, y + pixel * b->out_channels, count);
            since = at + 1;
        }
    }
    free(rows);
}

/* Squeeze-and-excitation's gate of each channel from the sums of a photo's `bands`. */
static void gate_of(const Block *b, const double *sums, long bands, float *gate) {
    float *mean = malloc(b->wide * sizeof(float));
    for (long c = 0; c < b->wide; c++) {
        double sum = 0;
        for (long band = 0; band < bands; band++) sum += sums[band * b->wide + c];
        mean[c] = (float)(sum / (b->out_height * b->out_width));
        gate[c] = b->excite_bias[c];
    }
    for (long s = 0; s < b->squeezed; s++) {
        float sum = b->reduce_bias[s];
#pragma omp simd reduction(+ : sum)
        for (long c = 0; c < b->wide; c++) sum += mean[c] * b->reduce[s * b->wide + c];
        sum = activate(sum, SILU);
#pragma omp simd
        for (long c = 0; c < b->wide; c++) gate[c] += sum * b->excite[s * b->wide + c];
    }
#pragma omp simd
    for (long c = 0; c < b->wide; c++) gate[c] = sigmoid(gate[c]);
    free(mean);
}

/* y of x; `map` has room for what is in between, photos x out_height x out_width x wide, where there is squeeze-and-excitation. */
void mbconv(const Block *b, const float *x, float *map, float *y) {
    long pixels = b->out_height * b->out_width, bands = b->photos < b->threads ? b->threads : 1; /* of a photo */
    long weights = (b->out_channels + BLOCK - 1) / BLOCK * b->wide * BLOCK, inputs = b->height * b->width * b->channels;
    double *sums = malloc(b->photos * bands * b->wide * sizeof(double));
#pragma omp parallel num_threads(b->threads)
    {
#pragma omp for schedule(static) nowait /* each thread goes on with the photos that it has in its cache */
        for (long job = 0; job < b->photos * bands; job++) {
            long photo = job / bands, band = job % bands;
            convolve(b, x + photo * inputs, map + photo * pixels * b->wide, sums + job * b->wide, y + photo * pixels * b->out_channels,
                     b->out_height * band / bands, b->out_height * (band + 1) / bands);
        }
        if (bands > 1) {
#pragma omp barrier
        }
        float *gate = malloc((b->wide + weights) * sizeof(float)), *scaled = gate + b->wide;
#pragma omp for schedule(static) nowait
        for (long job = 0; job < (b->squeezed ? b->photos * bands : 0); job++) {
            long photo = job / bands, first = pixels * (job % bands) / bands, count = pixels * (job % bands + 1) / bands - first;
            float *from = map + (photo * pixels + first) * b->wide;
            const float *weight = b->project;
            gate_of(b, sums + photo * bands * b->wide, bands, gate);
            if (count < b->out_channels) /* scales the smaller of the two that are multiplied */
                for (long row = 0; row < count; row++)
#pragma omp simd
                    for (long c = 0; c < b->wide; c++) from[row * b->wide + c] *= gate[c];
            else {
                for (long at = 0; at < weights; at += BLOCK)
#pragma omp simd
                    for (int k = 0; k < BLOCK; k++) scaled[at + k] = weight[at + k] * gate[at / BLOCK % b->wide];
                weight = scaled;
            }
            project(b, from, weight, x + photo * inputs + first * b->channels, y + (photo * pixels + first) * b->out_channels, count);
        }
        free(gate);
    }
    free(sums);
}

/* The means over its pixels of each photo's activated product with `weight`: photos x width, a multiple of BLOCK. */
void pooled(const float *x, float *means, const float *weight, const float *offset, long photos, long pixels, long depth, long width,
            int act, int threads) {
    long group = 8 * BLOCK, groups = (width + group - 1) / group;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long job = 0; job < photos * groups; job++) {
        long photo = job / groups, first = job % groups * group, count = least(group, width - first);
        float *made = malloc(pixels * count * sizeof(float));
        multiply(x + photo * pixels * depth, pixels, depth, weight + first * depth, offset + first, made, count, BLOCK, pixels * BLOCK, act);
        for (long c = 0; c < count; c += BLOCK) {
            float sum[BLOCK] = {0};
            for (long pixel = 0; pixel < pixels; pixel++)
#pragma omp simd
                for (int k = 0; k < BLOCK; k++) sum[k] += made[c * pixels + pixel * BLOCK + k];
            for (int k = 0; k < BLOCK; k++) means[photo * width + first + c + k] = sum[k] / pixels;
        }
        free(made);
    }
}
