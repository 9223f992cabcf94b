/* An EfficientNet block for inference, in one pass per photo: maps in between stay in the processor's cache. Without
   squeeze-and-excitation, which needs the means of a whole map, only a few rows of them exist at a time.
   Maps are floats, n x height x width x channels. Batch norms are folded into weights and biases.
   Weights of pointwise convolutions are in blocks of outputs: outputs / BLOCK (rounded up) x inputs x BLOCK; biases are as long. */

#include "common.h"

#ifdef __AVX512F__
#define TALL 14 /* rows of a matrix product kept in registers; maps are 7, 14, 28 ... wide at 224 pixels */
#define WIDE 2  /* blocks of columns kept in registers */
#define COLUMNS 7 /* outputs of a depthwise convolution that share each weight that is loaded */
#else
#define TALL (LANES == 8 ? 6 : 4)
#define WIDE 1
#define COLUMNS (LANES == 8 ? 4 : 2)
#endif
#define IN_CACHE 32768 /* floats of a map computed before they are projected */

/* `tall` rows and `wide` blocks of the product in `multiply`; `left` columns remain. */
INLINE void tile(const float *in, long depth, const float *weight, const float *bias, float *out, long left, long row_step,
                 long block_step, const int tall, const int wide) {
    lanes sum[TALL][WIDE * VECTORS];
    UNROLL for (int m = 0; m < tall; m++)
        UNROLL for (int v = 0; v < wide * VECTORS; v++) sum[m][v] = AT(bias, v * LANES);
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

/* out = in x weight + bias, `rows` x `depth` to `rows` x `width`. Block b of row r goes to r * row_step + b * block_step.
   `act` other than NONE needs row_step BLOCK. */
static void multiply(const float *in, long rows, long depth, const float *weight, const float *bias, float *out, long width,
                     long row_step, long block_step, int act) {
    for (long c = 0; c < width;) {
        const int wide = width - c > BLOCK && WIDE == 2 ? 2 : 1;
        const float *w = weight + c * depth;
        float *to = out + c / BLOCK * block_step;
        long row = 0;
#define TILES(HIGH, BROAD)                  \
    for (; row + HIGH <= rows; row += HIGH) \
        tile(in + row * depth, depth, w, bias + c, to + row * row_step, width - c, row_step, block_step, HIGH, BROAD);
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

/* Documented in kernels/inference.py, which fills it in. */
typedef struct {
    long photos, height, width, channels, wide, out_height, out_width, out_channels, kernel, stride, pad_height, pad_width, squeezed;
    int input_act, act, skips, threads;
    const float *expand, *input_bias, *depthwise, *depthwise_bias, *reduce, *reduce_bias, *excite, *excite_bias, *project, *project_bias;
} Block;

/* One row of the depthwise convolution's input, expanded and activated: blocks of channels, `room` floats apart. */
static void read_row(const Block *b, const float *x, float *row, long room) {
    if (b->expand) {
        multiply(x, b->width, b->channels, b->expand, b->input_bias, row, b->wide, BLOCK, room, b->input_act);
        return;
    }
    for (long c = 0; c < b->wide; c += BLOCK) {
        float *to = row + c / BLOCK * room;
        for (long column = 0; column < b->width; column++)
#pragma omp simd
            for (int k = 0; k < BLOCK; k++) to[column * BLOCK + k] = x[column * b->wide + c + k] + b->input_bias[c + k];
        activate_all(to, b->width * BLOCK, b->input_act);
    }
}

/* One output row of BLOCK channels, from the `kernel` padded rows `from`; NULL is a row of zeros. */
INLINE void convolve_row(float *const *from, const float *weight, const float *bias, float *out, long width, const int kernel,
                         const int stride) {
    long column = 0;
#define COLUMNS_OF(COUNT)                                                                                                \
    for (; column + COUNT <= width; column += COUNT) {                                                                   \
        lanes sum[COUNT][VECTORS];                                                                                       \
        UNROLL for (int m = 0; m < COUNT; m++) UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] = AT(bias, v * LANES); \
        for (int i = 0; i < kernel; i++) {                                                                               \
            if (!from[i]) continue;                                                                                      \
            const float *row = from[i] + column * stride * BLOCK, *from_weight = weight + i * kernel * BLOCK;            \
            UNROLL for (int j = 0; j < kernel; j++) UNROLL for (int v = 0; v < VECTORS; v++) {                           \
                lanes w = AT(from_weight, j * BLOCK + v * LANES);                                                        \
                UNROLL for (int m = 0; m < COUNT; m++) sum[m][v] += AT(row, (m * stride + j) * BLOCK + v * LANES) * w;   \
            }                                                                                                            \
        }                                                                                                                \
        UNROLL for (int m = 0; m < COUNT; m++) UNROLL for (int v = 0; v < VECTORS; v++)                                  \
            AT(out, (column + m) * BLOCK + v * LANES) = sum[m][v];                                                       \
    }
    COLUMNS_OF(COLUMNS) COLUMNS_OF(2) COLUMNS_OF(1)
#undef COLUMNS_OF
}

/* Activate a row of BLOCK channels, write it to its place in the map, and add to each channel's sum. */
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

/* Project `count` pixels of the map to y, and add the skip connection from the block's input x. */
static void project(const Block *b, const float *map, const float *weight, const float *x, float *y, long count) {
    multiply(map, count, b->wide, weight, b->project_bias, y, b->out_channels, b->out_channels, BLOCK, NONE);
    if (b->skips)
#pragma omp simd
        for (long i = 0; i < count * b->out_channels; i++) y[i] += x[i];
}

/* Rows `first` to `stop` of a photo's activated depthwise convolution. With squeeze-and-excitation they go to `map`, and the channels'
   sums to `sums`; without it, a few rows at a time are projected to y while they are in the cache. */
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
            const float *weight = b->depthwise + c * b->kernel * b->kernel;
#define WITH(KERNEL, STRIDE) \
    if (b->kernel == KERNEL && b->stride == STRIDE) convolve_row(from, weight, b->depthwise_bias + c, made, b->out_width, KERNEL, STRIDE);
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

/* Squeeze-and-excitation's gate per channel, from the sums of a photo's `bands`. */
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

/* The block's output y from its input x. With squeeze-and-excitation, `map` has room for photos x out_height x out_width x wide. */
void mbconv(const Block *b, const float *x, float *map, float *y) {
    long pixels = b->out_height * b->out_width, bands = b->photos < b->threads ? b->threads : 1; /* bands of rows per photo */
    long weights = (b->out_channels + BLOCK - 1) / BLOCK * b->wide * BLOCK, inputs = b->height * b->width * b->channels;
    double *sums = malloc(b->photos * bands * b->wide * sizeof(double));
#pragma omp parallel num_threads(b->threads)
    {
#pragma omp for schedule(static) nowait /* no wait: each thread continues with photos in its own cache */
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
            if (count < b->out_channels) /* scale the smaller factor of the product */
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

/* The activated product of each photo with `weight`, averaged over its pixels: photos x width, a multiple of BLOCK. */
void pooled(const float *x, float *means, const float *weight, const float *bias, long photos, long pixels, long depth, long width,
            int act, int threads) {
    long group = 8 * BLOCK, groups = (width + group - 1) / group;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long job = 0; job < photos * groups; job++) {
        long photo = job / groups, first = job % groups * group, count = least(group, width - first);
        float *made = malloc(pixels * count * sizeof(float));
        multiply(x + photo * pixels * depth, pixels, depth, weight + first * depth, bias + first, made, count, BLOCK, pixels * BLOCK, act);
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
