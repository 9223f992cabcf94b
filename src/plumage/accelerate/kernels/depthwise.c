/* A training step's kernels: a depthwise convolution with the batch norm and activation before it, and the pointwise convolution
   before them. */

#include "common.h"
#include "products.h"

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

/* Where the group of `count` columns at `column` starts: the last one overlaps the one before it. */
static inline long group(long column, long count, long width) { return least(column, most(0, width - count)); }

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

/* What a depthwise convolution is of: a = activation(x * scale + shift), where x has its channels; or, if `expand` is not NULL, where x
   has `inputs` channels, activation((x - mean) expand + shift), computed as it is needed. */
typedef struct {
    const float *scale, *shift, *mean, *expand; /* expand: inputs x channels */
    long inputs;
    int act;
} Input;

/* x - mean of a row of x, each column padded with zeros. */
static void centre_row(const element *x, long width, Input from, float *out) {
    for (long column = 0; column < width; column++, out += padded(from.inputs))
        for (long k = 0; k < from.inputs; k++) out[k] = get(x[column * from.inputs + k]) - from.mean[k];
}

/* `out`, one column of BLOCK channels after the other: the activation of x * scale + shift, which has a column every `channels`. The next
   row is fetched meanwhile: processors don't foresee such strides. */
INLINE void activate_row(const element *x, long width, long channels, Input from, long channel, float *out) {
    const float *scale = from.scale + channel, *shift = from.shift + channel;
    const int act = from.act;
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
INLINE void slope_row(const element *x, long width, long channels, Input from, long channel, float *out, float *slopes) {
    const float *scale = from.scale + channel, *shift = from.shift + channel;
    const int act = from.act;
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

#define TILE AT_ONCE(VECTORS) /* columns expanded at once */

/* `out`, one column of BLOCK channels after the other: (x - mean) expand + shift, of what `centre_row` makes. */
INLINE void expand_row(const float *x, long width, Input from, long channels, long channel, float *out) {
#define EXPAND(COLUMN, COUNT)                                                                                          \
    multiply(x + (COLUMN) * padded(from.inputs), padded(from.inputs), 1, from.expand + channel, channels, from.inputs, \
             from.shift + channel, 0, out + (COLUMN) * BLOCK, BLOCK, COUNT, VECTORS)
    if (width < TILE)
        for (long column = 0; column < width; column++) EXPAND(column, 1);
    else
        for (long column = 0; column < width; column += TILE) EXPAND(group(column, TILE, width), TILE);
#undef EXPAND
}

/* The activation of each of `count` values, in place. */
static void activate_in_place(float *values, long count, int act) {
#define LOOP(ACT) _Pragma("omp simd") for (long k = 0; k < count; k++) values[k] = activate(values[k], ACT);
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* The same, and its slopes. */
static void slope_in_place(float *values, long count, int act, float *slopes) {
#define LOOP(ACT)                                          \
    _Pragma("omp simd") for (long k = 0; k < count; k++) { \
        float y, rise = slope(values[k], ACT, &y);         \
        values[k] = y;                                     \
        slopes[k] = rise;                                  \
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

/* Adds to the sums of y - pivot and of its square, for BLOCK channels, what a row of y gives. */
INLINE void add_moments(const element *y, long width, long channels, const lanes *pivot, double *sums, double *squares) {
    lanes sum[VECTORS] = {{0}}, square[VECTORS] = {{0}};
    for (long column = 0; column < width; column++) UNROLL for (int v = 0; v < VECTORS; v++) {
        lanes difference = load(y + column * channels + v * LANES) - pivot[v];
        sum[v] += difference;
        square[v] += difference * difference;
    }
    for (int k = 0; k < BLOCK; k++) {
        sums[k] += sum[k / LANES][k % LANES];
        squares[k] += square[k / LANES][k % LANES];
    }
}

/* The mean and variance of each channel (Chan, Golub & LeVeque 1983). sums: per photo, of y - pivot and of its square, where pivot is the
   photo's first row. */
static void combine_moments(const element *y, const double *sums, long n, long rows, long channels, double *moments) {
    double *means = malloc(n * sizeof(double));
    for (long c = 0; c < channels; c++) {
        double mean = 0, variance = 0;
        for (long photo = 0; photo < n; photo++) {
            means[photo] = get(y[photo * rows * channels + c]) + sums[photo * 2 * channels + c] / rows;
            mean += means[photo] / n;
        }
        for (long photo = 0; photo < n; photo++) {
            double offset = sums[photo * 2 * channels + c] / rows, apart = means[photo] - mean;
            variance += (sums[(photo * 2 + 1) * channels + c] / rows - offset * offset + apart * apart) / n;
        }
        moments[c] = mean;
        moments[channels + c] = variance;
    }
    free(means);
}

/* norm_act_depthwise and expand_depthwise. */
static void forward(const element *x, element *y, double *moments, Input from, Conv conv, long n, long kernel, long stride, int threads) {
    const int expands = from.expand != NULL;
    long height = conv.x.height, width = conv.x.width, channels = conv.channels, inputs = expands ? from.inputs : channels;
    long per_photo = parts(n, channels, threads), wide = most(width + conv.pad.width, (conv.y.width - 1) * stride + kernel);
    long size = kernel * wide * BLOCK, row_size = width * padded(inputs);
    double *sums = calloc(n * 2 * channels, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < n * per_photo; number++) {
        Task of = task(number, per_photo, channels);
        float *ring = calloc((of.stop - of.first) / BLOCK * size + expands * kernel * row_size, sizeof(float));
        float *centred = ring + (of.stop - of.first) / BLOCK * size;
        const element *in = x + of.photo * height * width * inputs;
        element *out = y + of.photo * conv.y.height * conv.y.width * channels, *first = out;
        for (long row = 0, next = 0, stop; row < conv.y.height; row++, next = stop, out += conv.y.width * channels) {
            stop = most(next, least(height, row * stride - conv.pad.height + kernel));
            if (expands)
                for (long made = next; made < stop; made++)
                    centre_row(in + made * width * inputs, width, from, centred + (made - next) * row_size);
            for (long c = of.first; c < of.stop; c += BLOCK) {
                float *block = ring + (c - of.first) / BLOCK * size;
                for (long made = next; made < stop; made++) {
                    float *activated = RING(block, made, kernel, wide, conv.pad.width);
                    if (expands) {
                        expand_row(centred + (made - next) * row_size, width, from, channels, c, activated);
                        activate_in_place(activated, width * BLOCK, from.act);
                    } else
                        activate_row(in + made * width * channels + c, width, channels, from, c, activated);
                }
#define ROW(KERNEL, STRIDE)                                                                      \
    for (long column = 0; column < conv.y.width; column += conv.y.width < COLUMNS ? 1 : COLUMNS) \
        if (conv.y.width < COLUMNS)                                                              \
            convolve(block, wide, conv, row, c, column, out + c, 1, KERNEL, STRIDE);             \
        else                                                                                     \
            convolve(block, wide, conv, row, c, group(column, COLUMNS, conv.y.width), out + c, COLUMNS, KERNEL, STRIDE);
                PER_CONVOLUTION(ROW)
#undef ROW
                lanes pivot[VECTORS];
                for (int v = 0; v < VECTORS; v++) pivot[v] = load(first + c + v * LANES);
                double *sum = sums + of.photo * 2 * channels + c;
                add_moments(out + c, conv.y.width, channels, pivot, sum, sum + channels);
            }
        }
        free(ring);
    }
    combine_moments(y, sums, n, conv.y.height * conv.y.width, channels, moments);
    free(sums);
}

/* y: the depthwise convolution of a = activation(x * scale + shift). x: n x height x width, y: n x out_height x out_width, each of
   channels, a multiple of BLOCK; weight: kernel x kernel x channels, kernel 3 or 5, stride 1 or 2; a is zero outside its borders.
   moments: 2 x channels, y's mean and variance. */
void norm_act_depthwise(const element *x, element *y, double *moments, const float *weight, const float *norm, int act, long n, long height,
                        long width, long out_height, long out_width, long channels, long kernel, long stride, long pad_height,
                        long pad_width, int threads) {
    Conv conv = {{height, width}, {out_height, out_width}, {pad_height, pad_width}, channels, weight};
    forward(x, y, moments, (Input){norm, norm + channels, NULL, NULL, channels, act}, conv, n, kernel, stride, threads);
}

/* The same of a = activation((x - mean) expand + shift), with x of `inputs` channels and inputs x channels weights to expand it. */
void expand_depthwise(const element *x, element *y, double *moments, const float *weight, const float *expand, const float *mean,
                      const float *shift, int act, long inputs, long n, long height, long width, long out_height, long out_width,
                      long channels, long kernel, long stride, long pad_height, long pad_width, int threads) {
    Conv conv = {{height, width}, {out_height, out_width}, {pad_height, pad_width}, channels, weight};
    forward(x, y, moments, (Input){NULL, shift, mean, expand, inputs, act}, conv, n, kernel, stride, threads);
}

/* Sums over photos of `count` values of each. */
static void sum_photos(const float *parts, long photos, long count, long per_photo, float *sums) {
    for (long k = 0; k < count; k++) {
        double sum = 0;
        for (long photo = 0; photo < photos; photo++) sum += parts[photo * per_photo + k];
        sums[k] = (float)sum;
    }
}

/* The gradients of norm_act_depthwise and expand_depthwise. */
static void backward(const element *x, const element *grad, element *x_grad, Input from, const float *back, Conv conv,
                     float *weight_grads, float *expand_grads, double *sums, long n, long kernel, long stride, int threads) {
    const int expands = from.expand != NULL;
    long height = conv.x.height, width = conv.x.width, channels = conv.channels, inputs = expands ? from.inputs : channels;
    long per_photo = expands ? 1 : parts(n, channels, threads), weights = kernel * kernel * channels;
    long expanded = padded(inputs), row_size = width * expanded;
    long wide = most(width + conv.pad.width, (conv.y.width - 1) * stride + kernel), grad_wide = conv.y.width + 2 * kernel;
    float *weight_parts = calloc(n * weights, sizeof(float));
    float *expand_parts = expands ? calloc(n * channels * expanded, sizeof(float)) : NULL;
    float *padded_back = expands ? pad(back, channels, inputs) : NULL;
    double *sum_parts = calloc(n * 2 * channels, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < n * per_photo; number++) {
        Task of = task(number, per_photo, channels);
        long blocks = (of.stop - of.first) / BLOCK, ring_size = kernel * grad_wide * BLOCK;
        float *ring = calloc(blocks * ring_size + (wide + 2 * width) * BLOCK + expands * 2 * row_size, sizeof(float));
        float *activated = ring + blocks * ring_size, *slopes = activated + wide * BLOCK, *spread = slopes + width * BLOCK;
        float *inside = activated + conv.pad.width * BLOCK, *centred = spread + width * BLOCK, *centred_grad = centred + row_size;
        float *weight_part = weight_parts + of.photo * weights, *expand_part = expand_parts + of.photo * channels * expanded;
        double *sum_part = sum_parts + of.photo * 2 * channels;
        const element *g = grad + of.photo * conv.y.height * conv.y.width * channels;
        for (long row = 0, next = 0, stop; row < height; row++, next = stop) {
            long place = (of.photo * height + row) * width * inputs;
            stop = most(next, least(conv.y.height, (row + conv.pad.height) / stride + 1));
            if (expands) {
                centre_row(x + place, width, from, centred);
                memset(centred_grad, 0, row_size * sizeof(float));
            }
            for (long c = of.first; c < of.stop; c += BLOCK) {
                float *grads = ring + (c - of.first) / BLOCK * ring_size;
                for (long made = next; made < stop; made++)
                    unpack_row(g + made * conv.y.width * channels + c, conv.y.width, channels,
                               RING(grads, made, kernel, grad_wide, kernel));
                if (expands) {
                    expand_row(centred, width, from, channels, c, inside);
                    slope_in_place(inside, width * BLOCK, from.act, slopes);
                } else
                    slope_row(x + place + c, width, channels, from, c, inside, slopes);
#define ROW(KERNEL, STRIDE)                                                                                             \
    weight_grad(activated, grads, grad_wide, conv, row, c, weight_part, KERNEL, STRIDE);                                \
    UNROLL for (int from = 0; from < STRIDE; from++) {                                                                  \
        long first = (from - conv.pad.width % STRIDE + STRIDE) % STRIDE, count = (width - first + STRIDE - 1) / STRIDE; \
        for (long q = 0; q < count; q += count < COLUMNS ? 1 : COLUMNS) {                                               \
            long column = first + (count < COLUMNS ? q : group(q, COLUMNS, count)) * STRIDE;                            \
            if (count < COLUMNS)                                                                                        \
                convolve_back(grads, grad_wide, conv, row, c, column, spread, from, 1, KERNEL, STRIDE);                 \
            else                                                                                                        \
                convolve_back(grads, grad_wide, conv, row, c, column, spread, from, COLUMNS, KERNEL, STRIDE);           \
        }                                                                                                               \
    }
                PER_CONVOLUTION(ROW)
#undef ROW
                lanes sum[VECTORS] = {{0}}, product[VECTORS] = {{0}};
                for (long column = 0; column < width; column++) UNROLL for (int k = 0; k < VECTORS; k++) {
                    long at = column * BLOCK + k * LANES, in = place + column * channels + c + k * LANES;
                    lanes value = AT(spread, at) * AT(slopes, at);
                    sum[k] += value;
                    if (expands)
                        AT(spread, at) = value;
                    else {
                        store(x_grad + in, value);
                        product[k] += value * (load(x + in) - AT(from.mean, c + k * LANES));
                    }
                }
                for (int k = 0; k < BLOCK; k++) {
                    sum_part[c + k] += sum[k / LANES][k % LANES];
                    if (!expands) sum_part[channels + c + k] += product[k / LANES][k % LANES];
                }
                if (expands) {
                    add_product(spread, 1, BLOCK, centred, expanded, width, expand_part + c * expanded, expanded, BLOCK, expanded);
                    add_product(spread, BLOCK, 1, padded_back + c * expanded, expanded, BLOCK, centred_grad, expanded, width, expanded);
                }
            }
            if (expands)
                for (long column = 0; column < width; column++)
                    for (long k = 0; k < inputs; k++) x_grad[place + column * inputs + k] = put(centred_grad[column * expanded + k]);
        }
        free(ring);
    }
    sum_photos(weight_parts, n, weights, weights, weight_grads);
    for (long c = 0; expands && c < channels; c++)
        sum_photos(expand_parts + c * expanded, n, inputs, channels * expanded, expand_grads + c * inputs);
    for (long k = 0; k < 2 * channels; k++) {
        sums[k] = 0;
        for (long photo = 0; photo < n; photo++) sums[k] += sum_parts[photo * 2 * channels + k];
    }
    free(weight_parts);
    free(expand_parts);
    free(padded_back);
    free(sum_parts);
}

/* The gradients of norm_act_depthwise: of x, of the weights, and of the norm's weight and bias. If norm_grads is NULL, x_grad is the
   gradient before the activation. */
void norm_act_depthwise_grad(const element *x, const element *grad, element *x_grad, const float *weight, const float *norm, int act,
                             float *weight_grads, float *norm_grads, long n, long height, long width, long out_height, long out_width,
                             long channels, long kernel, long stride, long pad_height, long pad_width, int threads) {
    Conv conv = {{height, width}, {out_height, out_width}, {pad_height, pad_width}, channels, weight};
    Input from = {norm, norm + channels, norm + 2 * channels, NULL, channels, act};
    double *sums = malloc(2 * channels * sizeof(double));
    backward(x, grad, x_grad, from, NULL, conv, weight_grads, NULL, sums, n, kernel, stride, threads);
    if (norm_grads)
        norm_gradient(x_grad, x, x_grad, 1, n * height * width, channels, NULL, NULL, norm, sums, NONE, norm_grads, threads);
    free(sums);
}

/* From the gradient v before the activation: x_grad, v `back`, with channels x inputs weights; the gradient of the weights; expand_grads,
   channels x inputs, the sums of v times x - mean; and sums[0] of v per channel. */
void expand_depthwise_grad(const element *x, const element *grad, element *x_grad, const float *weight, const float *expand,
                           const float *mean, const float *shift, const float *back, int act, float *weight_grads, float *expand_grads,
                           double *sums, long inputs, long n, long height, long width, long out_height, long out_width, long channels,
                           long kernel, long stride, long pad_height, long pad_width, int threads) {
    Conv conv = {{height, width}, {out_height, out_width}, {pad_height, pad_width}, channels, weight};
    Input from = {NULL, shift, mean, expand, inputs, act};
    backward(x, grad, x_grad, from, back, conv, weight_grads, expand_grads, sums, n, kernel, stride, threads);
}

/* Per channel over all rows, the sums of x - pivot, and channels x channels of its products. */
void channel_products(const element *x, long rows, long channels, const float *pivot, double *sums, double *products, int threads) {
    long chunks = threads * 4L, wide = padded(channels), count = channels * (1 + wide);
    double *parts = calloc(chunks * count, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long chunk = 0; chunk < chunks; chunk++) {
        double *total = parts + chunk * count;
        float *centred = calloc(ROWS * wide + count, sizeof(float)), *sum = centred + ROWS * wide, *product = sum + channels;
        for (long row = rows * chunk / chunks, end = rows * (chunk + 1) / chunks, step; row < end; row += step) {
            step = least(ROWS, end - row);
            centre_row(x + row * channels, step, (Input){.mean = pivot, .inputs = channels}, centred);
            memset(sum, 0, count * sizeof(float));
            for (long r = 0; r < step; r++)
                for (long c = 0; c < channels; c++) sum[c] += centred[r * wide + c];
            add_product(centred, 1, wide, centred, wide, step, product, wide, channels, wide);
            for (long k = 0; k < count; k++) total[k] += sum[k];
        }
        free(centred);
    }
    for (long chunk = 1; chunk < chunks; chunk++)
        for (long k = 0; k < count; k++) parts[k] += parts[chunk * count + k];
    for (long c = 0; c < channels; c++) {
        sums[c] = parts[c];
        for (long k = 0; k < channels; k++) products[c * channels + k] = parts[channels + c * wide + k];
    }
    free(parts);
}

/* y += x matrix + offset, with channels x channels weights. */
void add_pointwise(const element *x, element *y, long rows, long channels, const float *matrix, const float *offset, int threads) {
    long wide = padded(channels);
    float *padded_matrix = pad(matrix, channels, channels), *padded_offset = pad(offset, 1, channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long chunk = 0; chunk < (rows + ROWS - 1) / ROWS; chunk++) {
        long first = chunk * ROWS, count = least(ROWS, rows - first);
        float in[ROWS * channels], out[ROWS * wide];
        for (long k = 0; k < count * channels; k++) in[k] = get(x[first * channels + k]);
        for (long r = 0; r < count; r++) memcpy(out + r * wide, padded_offset, wide * sizeof(float));
        add_product(in, channels, 1, padded_matrix, wide, channels, out, wide, count, wide);
        for (long r = 0; r < count; r++)
            for (long c = 0; c < channels; c++) {
                element *to = y + (first + r) * channels + c;
                *to = put(get(*to) + out[r * wide + c]);
            }
    }
    free(padded_matrix);
    free(padded_offset);
}
