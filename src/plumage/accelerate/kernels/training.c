/* A training step's kernels: batch norm with its activation, alone or with the layer that follows it: a depthwise convolution or
   squeeze-and-excitation. */

#include "common.h"

#define ROWS 64 /* rows summed in float before the sum is added to a double */

/* y = activation(x * scale + shift), with scale and shift per channel. */
void norm_act(const element *x, element *y, long rows, long channels, const float *scale, const float *shift, int act,
              int threads) {
#define LOOP(ACT)                                                                                             \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < rows; row++) { \
        const element *in = x + row * channels;                                                               \
        element *out = y + row * channels;                                                                    \
        _Pragma("omp simd") for (long c = 0; c < channels; c++)                                               \
            out[c] = put(activate(get(in[c]) * scale[c] + shift[c], ACT));                                    \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* Per channel over all rows: sums[0] of v, sums[1] of v * (x - pivot). If grad is NULL, v is x - pivot; if not, v is the gradient
   before the activation, grad * activation'(x * scale + shift). */
void channel_sums(const element *grad, const element *x, long rows, long channels, const float *scale, const float *shift,
                  const float *pivot, int act, double *sums, int threads) {
    long chunks = threads * 4L;
    double *parts = calloc(chunks * 2 * channels, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long chunk = 0; chunk < chunks; chunk++) {
        double *total = parts + chunk * 2 * channels;
        float *sum = malloc(2 * channels * sizeof(float)), *product = sum + channels;
        for (long row = rows * chunk / chunks, end = rows * (chunk + 1) / chunks; row < end;) {
            long stop = row + ROWS < end ? row + ROWS : end;
            memset(sum, 0, 2 * channels * sizeof(float));
            for (; row < stop; row++) {
                const element *in = x + row * channels, *g = grad ? grad + row * channels : NULL;
#define ADD(V)                                                \
    _Pragma("omp simd") for (long c = 0; c < channels; c++) { \
        float y, d = get(in[c]) - pivot[c], v = V;            \
        sum[c] += v;                                          \
        product[c] += v * d;                                  \
    }
#define LOOP(ACT) ADD(get(g[c]) * slope(get(in[c]) * scale[c] + shift[c], ACT, &y))
                if (g)
                    PER_ACTIVATION(LOOP)
                else
                    ADD((y = d))
#undef LOOP
#undef ADD
            }
            for (long c = 0; c < 2 * channels; c++) total[c] += sum[c];
        }
        free(sum);
    }
    for (long c = 0; c < 2 * channels; c++) {
        sums[c] = 0;
        for (long chunk = 0; chunk < chunks; chunk++) sums[c] += parts[chunk * 2 * channels + c];
    }
    free(parts);
}

/* out = v * scale + x * x_scale + offset: the gradient before the norm. v is the gradient before the activation:
   (grad * gate + gate_offset) * activation'(x * scale + shift), with gate and gate_offset per photo and channel. */
void norm_act_grad(const element *grad, const element *x, element *out, long photos, long rows, long channels, const float *gate,
                   const float *gate_offset, const float *scale, const float *shift, const float *x_scale, const float *offset, int act,
                   int threads) {
#define LOOP(ACT)                                                                                                      \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < photos * rows; row++) { \
        const element *in = x + row * channels, *g = grad + row * channels;                                            \
        const float *factor = gate + row / rows * channels, *more = gate_offset + row / rows * channels;               \
        element *o = out + row * channels;                                                                             \
        _Pragma("omp simd") for (long c = 0; c < channels; c++) {                                                      \
            float y, value = get(in[c]), rise = slope(value * scale[c] + shift[c], ACT, &y);                           \
            float v = (get(g[c]) * factor[c] + more[c]) * rise;                                                        \
            o[c] = put(v * scale[c] + value * x_scale[c] + offset[c]);                                                 \
        }                                                                                                              \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* y = x * scale + shift, with scale and shift per photo and channel. */
void excite(const element *x, element *y, long photos, long rows, long channels, const float *scale, const float *shift, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < photos * rows; row++) {
        const float *factor = scale + row / rows * channels, *offset = shift + row / rows * channels;
        const element *in = x + row * channels;
        element *out = y + row * channels;
#pragma omp simd
        for (long c = 0; c < channels; c++) out[c] = put(get(in[c]) * factor[c] + offset[c]);
    }
}

/* Channels `first` to `stop` of a photo: what a thread computes at a time. */
typedef struct {
    long photo, first, stop;
} Task;

/* Photos share the threads; if there are few of them, so do parts of their channels. */
static long parts(long photos, long channels, int threads) {
    return most(1, least(channels / BLOCK, (4L * threads + photos - 1) / photos));
}

static Task task(long number, long parts, long channels) {
    long part = number % parts, blocks = channels / BLOCK;
    return (Task){number / parts, blocks * part / parts * BLOCK, part + 1 < parts ? blocks * (part + 1) / parts * BLOCK : channels};
}

typedef void AddRow(const element *x, const element *grad, element *y, const float *scale, const float *shift, const float *mean, int act,
                    long channels, float *sum);

/* sums[k][photo][c]: what `add` adds to its k-th sum, of `count`, in each row of the photo. */
INLINE void photo_sums(AddRow *add, const int count, const element *x, const element *grad, element *y, long photos, long rows,
                       long channels, const float *scale, const float *shift, const float *mean, int act, float *sums, int threads) {
    long per_photo = parts(photos, channels, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < photos * per_photo; number++) {
        Task of = task(number, per_photo, channels);
        long width = of.stop - of.first;
        double *total = calloc(count * width, sizeof(double));
        float *sum = malloc(count * width * sizeof(float));
        for (long row = of.photo * rows, end = row + rows; row < end;) {
            long stop = row + ROWS < end ? row + ROWS : end;
            memset(sum, 0, count * width * sizeof(float));
            for (; row < stop; row++) {
                long place = row * channels + of.first;
                add(x + place, grad + place, y + place, scale + of.first, shift + of.first, mean + of.first, act, width, sum);
            }
            for (long c = 0; c < count * width; c++) total[c] += sum[c];
        }
        for (int k = 0; k < count; k++)
            for (long c = 0; c < width; c++) sums[(k * photos + of.photo) * channels + of.first + c] = (float)total[k * width + c];
        free(sum);
        free(total);
    }
}

#define ADD_ROW(NAME)                                                                                                              \
    INLINE void NAME(const element *x, const element *grad, element *y, const float *scale, const float *shift, const float *mean, \
                     int act, long channels, float *sum)

ADD_ROW(add_product) {
#pragma omp simd
    for (long c = 0; c < channels; c++) sum[c] += get(x[c]) * get(grad[c]);
}

ADD_ROW(add_activated) {
#define LOOP(ACT)                                                     \
    _Pragma("omp simd") for (long c = 0; c < channels; c++) {         \
        float value = activate(get(x[c]) * scale[c] + shift[c], ACT); \
        y[c] = put(value);                                            \
        sum[c] += value;                                              \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

ADD_ROW(add_gradients) {
    float *slopes = sum + channels, *grads = slopes + channels, *slope_products = grads + channels, *products = slope_products + channels;
#define LOOP(ACT)                                                                                        \
    _Pragma("omp simd") for (long c = 0; c < channels; c++) {                                            \
        float value = get(x[c]), g = get(grad[c]), d = value - mean[c], t = value * scale[c] + shift[c]; \
        float a, rise = slope(t, ACT, &a), v = g * rise;                                                 \
        sum[c] += g * a;                                                                                 \
        slopes[c] += rise;                                                                               \
        grads[c] += v;                                                                                   \
        slope_products[c] += rise * d;                                                                   \
        products[c] += v * d;                                                                            \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* sums[photo][c]: x * grad summed over the rows of the photo. */
void excite_sums(const element *x, const element *grad, long photos, long rows, long channels, float *sums, int threads) {
    photo_sums(add_product, 1, x, grad, NULL, photos, rows, channels, NULL, NULL, NULL, NONE, sums, threads);
}

/* y = activation(x * scale + shift), and sums[photo][c] of it over the rows of the photo. */
void norm_act_sums(const element *x, element *y, long photos, long rows, long channels, const float *scale, const float *shift, int act,
                   float *sums, int threads) {
    photo_sums(add_activated, 1, x, NULL, y, photos, rows, channels, scale, shift, NULL, act, sums, threads);
}

/* sums[k][photo][c] over the rows of the photo: of grad * a, s, grad * s, s * (x - mean) and grad * s * (x - mean), with the activation a
   of x * scale + shift and its slope s. */
void norm_act_excite_sums(const element *x, const element *grad, long photos, long rows, long channels, const float *scale,
                          const float *shift, const float *mean, int act, float *sums, int threads) {
    photo_sums(add_gradients, 5, x, grad, NULL, photos, rows, channels, scale, shift, mean, act, sums, threads);
}

#ifdef BF16
typedef unsigned short narrow __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef unsigned wide __attribute__((vector_size(LANES * 4)));
INLINE lanes load(const element *from) { return (lanes)(__builtin_convertvector(*(const narrow *)from, wide) << 16); }
INLINE void store(element *to, lanes values) { /* `put` of each */
    wide bits = (wide)values, nan = (wide)((bits & 0x7fffffff) > 0x7f800000);
    wide rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    *(narrow *)to = __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), narrow);
}
#else
INLINE lanes load(const element *from) { return AT(from, 0); }
INLINE void store(element *to, lanes values) { AT(to, 0) = values; }
#endif

typedef struct {
    long height, width;
} Map;

/* A depthwise convolution. x has `pad` zeros above and to the left, and as many as it takes below and to the right. */
typedef struct {
    Map x, y, pad;
    long channels;
    const float *weight; /* kernel x kernel x channels */
} Conv;

#define COLUMNS (VECTORS < 4 ? 4 : 2) /* computed at once, with one load of each weight; maps may be 7 wide, or less */

/* Where the group of COLUMNS columns at `column` starts: the last one overlaps the one before it. */
static inline long group(long column, long width) { return least(column, most(0, width - COLUMNS)); }

/* A column of BLOCK channels in a row of a ring of `kernel` rows. */
#define RING(ring, row, kernel, wide, column) ((ring) + (((row) % (kernel)) * (wide) + (column)) * BLOCK)

/* Columns of an output row, from the ring of input rows. */
INLINE void convolve(const float *ring, long wide, Conv of, long row, long channel, long column, element *y, const int columns,
                     const int kernel, const int stride) {
    long top = row * stride - of.pad.height;
    lanes sum[COLUMNS][VECTORS] = {{{0}}};
    for (long i = most(0, -top), stop = least(kernel, of.x.height - top); i < stop; i++) {
        const float *in = RING(ring, top + i, kernel, wide, column * stride);
        UNROLL for (int j = 0; j < kernel; j++) UNROLL for (int v = 0; v < VECTORS; v++) {
            lanes weight = AT(of.weight, (i * kernel + j) * of.channels + channel + v * LANES);
            UNROLL for (int q = 0; q < columns; q++) sum[q][v] += AT(in, (q * stride + j) * BLOCK + v * LANES) * weight;
        }
    }
    UNROLL for (int q = 0; q < columns; q++) UNROLL for (int v = 0; v < VECTORS; v++)
        store(y + (column + q) * of.channels + v * LANES, sum[q][v]);
}

/* The gradient with respect to the columns of an input row at the q-th place after `column` each, stride apart, from the ring of output
   rows, which has `kernel` zeros on each side. */
INLINE void convolve_back(const float *ring, long wide, Conv of, long row, long channel, long column, float *x_grad, const int from,
                          const int columns, const int kernel, const int stride) {
    lanes sum[COLUMNS][VECTORS] = {{{0}}};
    for (long i = (row + of.pad.height) % stride; i < kernel; i += stride) {
        long made = (row + of.pad.height - i) / stride;
        if (row + of.pad.height < i || made >= of.y.height) continue;
        const float *g = RING(ring, made, kernel, wide, kernel + (column + of.pad.width - from) / stride);
        UNROLL for (int m = 0; m < (kernel - from + stride - 1) / stride; m++) UNROLL for (int v = 0; v < VECTORS; v++) {
            lanes weight = AT(of.weight, (i * kernel + from + m * stride) * of.channels + channel + v * LANES);
            UNROLL for (int q = 0; q < columns; q++) sum[q][v] += AT(g, (q - m) * BLOCK + v * LANES) * weight;
        }
    }
    UNROLL for (int q = 0; q < columns; q++) UNROLL for (int v = 0; v < VECTORS; v++)
        AT(x_grad, (column + q * stride) * BLOCK + v * LANES) = sum[q][v];
}

/* Adds to the gradient of the weights what an input row gives. */
INLINE void weight_grad(const float *x, const float *ring, long wide, Conv of, long row, long channel, float *out, const int kernel,
                        const int stride) {
    for (long i = (row + of.pad.height) % stride; i < kernel; i += stride) {
        long made = (row + of.pad.height - i) / stride;
        if (row + of.pad.height < i || made >= of.y.height) continue;
        const float *g = RING(ring, made, kernel, wide, kernel);
        lanes sum[5][VECTORS] = {{{0}}};
        for (long column = 0; column < of.y.width; column++)
            UNROLL for (int j = 0; j < kernel; j++) UNROLL for (int v = 0; v < VECTORS; v++)
                sum[j][v] += AT(g, column * BLOCK + v * LANES) * AT(x, (column * stride + j) * BLOCK + v * LANES);
        UNROLL for (int j = 0; j < kernel; j++) UNROLL for (int v = 0; v < VECTORS; v++)
            AT(out, (i * kernel + j) * of.channels + channel + v * LANES) += sum[j][v];
    }
}

/* `out`, one column of BLOCK channels after the other: the activation of x * scale + shift, which has a column every `channels`. The next
   row is fetched meanwhile: processors don't foresee such strides. */
INLINE void activate_row(const element *x, long width, long channels, const float *scale, const float *shift, int act, float *out) {
#define LOOP(ACT)                                                                                         \
    for (long column = 0; column < width; column++) {                                                     \
        __builtin_prefetch(x + (width + column) * channels, 0, 2);                                        \
        _Pragma("omp simd") for (int k = 0; k < BLOCK; k++)                                               \
            out[column * BLOCK + k] = activate(get(x[column * channels + k]) * scale[k] + shift[k], ACT); \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* The same, and its slopes. */
INLINE void slope_row(const element *x, long width, long channels, const float *scale, const float *shift, int act, float *out,
                      float *slopes) {
#define LOOP(ACT)                                                                                \
    for (long column = 0; column < width; column++) {                                            \
        __builtin_prefetch(x + (width + column) * channels, 0, 2);                               \
        _Pragma("omp simd") for (int k = 0; k < BLOCK; k++) {                                    \
            float y, rise = slope(get(x[column * channels + k]) * scale[k] + shift[k], ACT, &y); \
            out[column * BLOCK + k] = y;                                                         \
            slopes[column * BLOCK + k] = rise;                                                   \
        }                                                                                        \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* The row as it is. */
INLINE void unpack_row(const element *x, long width, long channels, float *out) {
    for (long column = 0; column < width; column++) {
        __builtin_prefetch(x + (width + column) * channels, 0, 2);
        UNROLL for (int v = 0; v < BLOCK; v += LANES) AT(out, column * BLOCK + v) = load(x + column * channels + v);
    }
}

#define PER_CONVOLUTION(CALL)                                                           \
    if (kernel == 3 && stride == 1) { CALL(3, 1) } else if (kernel == 3) { CALL(3, 2) } \
    else if (stride == 1) { CALL(5, 1) } else { CALL(5, 2) }

/* y: the depthwise convolution of a = activation(x * scale + shift). x: n x height x width, y: n x out_height x out_width, each of
   channels, a multiple of BLOCK; weight: kernel x kernel x channels, kernel 3 or 5, stride 1 or 2; a is zero outside its borders. */
void norm_act_depthwise(const element *x, element *y, const float *weight, const float *scale, const float *shift, int act, long n,
                        long height, long width, long out_height, long out_width, long channels, long kernel, long stride,
                        long pad_height, long pad_width, int threads) {
    Conv conv = {{height, width}, {out_height, out_width}, {pad_height, pad_width}, channels, weight};
    long per_photo = parts(n, channels, threads), wide = most(width + pad_width, (out_width - 1) * stride + kernel);
    long size = kernel * wide * BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < n * per_photo; number++) {
        Task of = task(number, per_photo, channels);
        float *ring = calloc((of.stop - of.first) / BLOCK * size, sizeof(float));
        const element *in = x + of.photo * height * width * channels;
        element *out = y + of.photo * out_height * out_width * channels;
        for (long row = 0, next = 0, stop; row < out_height; row++, next = stop, out += out_width * channels) {
            stop = most(next, least(height, row * stride - pad_height + kernel));
            for (long c = of.first; c < of.stop; c += BLOCK) {
                float *block = ring + (c - of.first) / BLOCK * size;
                for (long made = next; made < stop; made++)
                    activate_row(in + made * width * channels + c, width, channels, scale + c, shift + c, act,
                                 RING(block, made, kernel, wide, pad_width));
#define ROW(KERNEL, STRIDE)                                                                \
    for (long column = 0; column < out_width; column += out_width < COLUMNS ? 1 : COLUMNS) \
        if (out_width < COLUMNS)                                                           \
            convolve(block, wide, conv, row, c, column, out + c, 1, KERNEL, STRIDE);       \
        else                                                                               \
            convolve(block, wide, conv, row, c, group(column, out_width), out + c, COLUMNS, KERNEL, STRIDE);
                PER_CONVOLUTION(ROW)
#undef ROW
            }
        }
        free(ring);
    }
}

/* The gradients of norm_act_depthwise: v, before the activation; of the weights; and per channel the sums[0] of v and sums[1] of
   v * (x - mean). */
void norm_act_depthwise_grad(const element *x, const element *grad, element *v, const float *weight, const float *scale,
                             const float *shift, const float *mean, int act, float *weight_grads, double *sums, long n, long height,
                             long width, long out_height, long out_width, long channels, long kernel, long stride, long pad_height,
                             long pad_width, int threads) {
    Conv conv = {{height, width}, {out_height, out_width}, {pad_height, pad_width}, channels, weight};
    long per_photo = parts(n, channels, threads), weights = kernel * kernel * channels;
    long wide = most(width + pad_width, (out_width - 1) * stride + kernel), grad_wide = out_width + 2 * kernel;
    float *weight_parts = calloc(n * weights, sizeof(float));
    double *sum_parts = calloc(n * 2 * channels, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < n * per_photo; number++) {
        Task of = task(number, per_photo, channels);
        long blocks = (of.stop - of.first) / BLOCK, ring_size = kernel * grad_wide * BLOCK;
        float *ring = calloc(blocks * ring_size + (wide + 2 * width) * BLOCK, sizeof(float));
        float *activated = ring + blocks * ring_size, *slopes = activated + wide * BLOCK, *spread = slopes + width * BLOCK;
        float *weight_part = weight_parts + of.photo * weights;
        double *sum_part = sum_parts + of.photo * 2 * channels;
        const element *g = grad + of.photo * out_height * out_width * channels;
        for (long row = 0, next = 0, stop; row < height; row++, next = stop) {
            long place = (of.photo * height + row) * width * channels;
            stop = most(next, least(out_height, (row + pad_height) / stride + 1));
            for (long c = of.first; c < of.stop; c += BLOCK) {
                float *grads = ring + (c - of.first) / BLOCK * ring_size;
                for (long made = next; made < stop; made++)
                    unpack_row(g + made * out_width * channels + c, out_width, channels, RING(grads, made, kernel, grad_wide, kernel));
                slope_row(x + place + c, width, channels, scale + c, shift + c, act, activated + pad_width * BLOCK, slopes);
#define ROW(KERNEL, STRIDE)                                                                                        \
    weight_grad(activated, grads, grad_wide, conv, row, c, weight_part, KERNEL, STRIDE);                           \
    UNROLL for (int from = 0; from < STRIDE; from++) {                                                             \
        long first = (from - pad_width % STRIDE + STRIDE) % STRIDE, count = (width - first + STRIDE - 1) / STRIDE; \
        for (long q = 0; q < count; q += count < COLUMNS ? 1 : COLUMNS) {                                          \
            long column = first + (count < COLUMNS ? q : group(q, count)) * STRIDE;                                \
            if (count < COLUMNS)                                                                                   \
                convolve_back(grads, grad_wide, conv, row, c, column, spread, from, 1, KERNEL, STRIDE);            \
            else                                                                                                   \
                convolve_back(grads, grad_wide, conv, row, c, column, spread, from, COLUMNS, KERNEL, STRIDE);      \
        }                                                                                                          \
    }
                PER_CONVOLUTION(ROW)
#undef ROW
                lanes sum[VECTORS] = {{0}}, product[VECTORS] = {{0}};
                for (long column = 0; column < width; column++) UNROLL for (int k = 0; k < VECTORS; k++) {
                    long at = column * BLOCK + k * LANES, in = place + column * channels + c + k * LANES;
                    lanes value = AT(spread, at) * AT(slopes, at);
                    store(v + in, value);
                    sum[k] += value;
                    product[k] += value * (load(x + in) - AT(mean, c + k * LANES));
                }
                for (int k = 0; k < BLOCK; k++) {
                    sum_part[c + k] += sum[k / LANES][k % LANES];
                    sum_part[channels + c + k] += product[k / LANES][k % LANES];
                }
            }
        }
        free(ring);
    }
    for (long k = 0; k < weights; k++) {
        double sum = 0;
        for (long photo = 0; photo < n; photo++) sum += weight_parts[photo * weights + k];
        weight_grads[k] = (float)sum;
    }
    for (long k = 0; k < 2 * channels; k++) {
        sums[k] = 0;
        for (long photo = 0; photo < n; photo++) sums[k] += sum_parts[photo * 2 * channels + k];
    }
    free(weight_parts);
    free(sum_parts);
}
