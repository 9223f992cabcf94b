/* A training step's kernels: squeeze-and-excitation, with the batch norm and activation before it and the pointwise convolution after. */

#include "common.h"
#include "products.h"

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

ADD_ROW(add_products) {
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
    photo_sums(add_products, 1, x, grad, NULL, photos, rows, channels, NULL, NULL, NULL, NONE, sums, threads);
}

ADD_ROW(add_activation) {
#define LOOP(ACT) _Pragma("omp simd") for (long c = 0; c < channels; c++) sum[c] += activate(get(x[c]) * scale[c] + shift[c], ACT);
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* sums[photo][c] of y = activation(x * scale + shift) over the rows of the photo. y is kept unless it is NULL. */
void norm_act_sums(const element *x, element *y, long photos, long rows, long channels, const float *norm, int act, float *sums,
                   int threads) {
    const float *scale = norm, *shift = scale + channels;
    if (y)
        photo_sums(add_activated, 1, x, NULL, y, photos, rows, channels, scale, shift, NULL, act, sums, threads);
    else
        photo_sums(add_activation, 1, x, NULL, NULL, photos, rows, channels, scale, shift, NULL, act, sums, threads);
}

/* sums[k][photo][c] over the rows of the photo: of grad * a, s, grad * s, s * (x - mean) and grad * s * (x - mean), with the activation a
   of x * scale + shift and its slope s. */
void norm_act_excite_sums(const element *x, const element *grad, long photos, long rows, long channels, const float *norm, int act,
                          float *sums, int threads) {
    const float *scale = norm, *shift = scale + channels, *mean = shift + channels;
    photo_sums(add_gradients, 5, x, grad, NULL, photos, rows, channels, scale, shift, mean, act, sums, threads);
}

/* norm_gradient's sums, to be freed, of the last four that norm_act_excite_sums gives per photo. */
static double *gated_sums(const float *sums, const float *gate, const float *gate_offset, long photos, long channels) {
    double *totals = calloc(2 * channels, sizeof(double));
    long count = photos * channels;
    const float *slopes = sums, *grads = slopes + count, *slope_products = grads + count, *products = slope_products + count;
    for (long k = 0; k < count; k++) {
        double factor = gate[k], more = gate_offset[k];
        totals[k % channels] += factor * grads[k] + more * slopes[k];
        totals[channels + k % channels] += factor * products[k] + more * slope_products[k];
    }
    return totals;
}

/* From the sums of norm_act_excite_sums but the first, the gradients of x and of the norm's weight and bias: gate_offset is the gradient
   of the gate's input. */
void norm_act_excite_grad(const element *grad, const element *x, element *x_grad, long photos, long rows, long channels,
                          const float *gate, const float *gate_offset, const float *norm, const float *sums, int act, float *grads,
                          int threads) {
    double *totals = gated_sums(sums, gate, gate_offset, photos, channels);
    norm_gradient(grad, x, x_grad, photos, rows, channels, gate, gate_offset, norm, totals, act, grads, threads);
    free(totals);
}

/* Rows of a photo: what a thread computes at a time. */
typedef struct {
    long photo, place, count; /* place: their first row's among those of all photos */
} Rows;

static Rows rows_of(long number, long per_photo, long rows) {
    long first = number % per_photo * ROWS;
    return (Rows){number / per_photo, number / per_photo * rows + first, least(ROWS, rows - first)};
}

static void copy_rows(const element *x, long rows, long columns, float *out) {
    for (long row = 0; row < rows; row++, out += padded(columns))
        for (long k = 0; k < columns; k++) out[k] = get(x[row * columns + k]);
}

/* y = (activation(x * scale + shift) * gate) weight, with a gate per photo and channel, and channels x outputs weights. */
void norm_act_project(const element *x, element *y, long photos, long rows, long channels, long outputs, const float *norm, int act,
                      const float *gate, const float *weight, int threads) {
    const float *scale = norm, *shift = scale + channels;
    long per_photo = (rows + ROWS - 1) / ROWS, wide = padded(outputs);
    float *padded_weight = pad(weight, channels, outputs);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < photos * per_photo; number++) {
        Rows of = rows_of(number, per_photo, rows);
        float *out = malloc(ROWS * (wide + channels) * sizeof(float)), *a = out + ROWS * wide;
        memset(out, 0, ROWS * wide * sizeof(float));
        const float *factor = gate + of.photo * channels;
#define LOOP(ACT)                                                                                \
    for (long row = 0; row < of.count; row++) {                                                  \
        const element *in = x + (of.place + row) * channels;                                     \
        _Pragma("omp simd") for (long c = 0; c < channels; c++)                                  \
            a[row * channels + c] = activate(get(in[c]) * scale[c] + shift[c], ACT) * factor[c]; \
    }
        PER_ACTIVATION(LOOP)
#undef LOOP
        add_product(a, channels, 1, padded_weight, wide, channels, out, wide, of.count, wide);
        for (long row = 0; row < of.count; row++)
            for (long k = 0; k < outputs; k++) y[(of.place + row) * outputs + k] = put(out[row * wide + k]);
        free(out);
    }
    free(padded_weight);
}

/* For the gradients of norm_act_project, with g = grad weight, weight outputs x channels, and the activation a of x * scale + shift and its
   slope s: sums[k][photo][c] over the rows of the photo, of s, g * s, s * (x - mean) and g * s * (x - mean), and
   products[photo][c][output] of a * grad. */
void norm_act_project_sums(const element *x, const element *grad, long photos, long rows, long channels, long outputs,
                           const float *norm, int act, const float *weight, float *sums, float *products, int threads) {
    const float *scale = norm, *shift = scale + channels, *mean = shift + channels;
    long per_photo = parts(photos, channels, threads), wide = padded(outputs);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < photos * per_photo; number++) {
        Task of = task(number, per_photo, channels);
        long width = of.stop - of.first;
        double *total = calloc(4 * width, sizeof(double));
        float *product = calloc(width * (wide + 4) + ROWS * (wide + 2 * width), sizeof(float));
        float *slopes = product + width * wide, *grads = slopes + width, *slope_products = grads + width;
        float *grad_products = slope_products + width, *g = grad_products + width, *spread = g + ROWS * wide, *a = spread + ROWS * width;
        for (long first = of.photo * rows, end = first + rows, count; first < end; first += count) {
            count = least(ROWS, end - first);
            copy_rows(grad + first * outputs, count, outputs, g);
            memset(spread, 0, ROWS * width * sizeof(float));
            add_product(g, wide, 1, weight + of.first, channels, outputs, spread, width, count, width);
            memset(slopes, 0, 4 * width * sizeof(float));
#define LOOP(ACT)                                                                           \
    for (long row = 0; row < count; row++) {                                                \
        const element *in = x + (first + row) * channels + of.first;                        \
        _Pragma("omp simd") for (long c = 0; c < width; c++) {                              \
            float value = get(in[c]), d = value - mean[of.first + c], y;                    \
            float rise = slope(value * scale[of.first + c] + shift[of.first + c], ACT, &y); \
            float v = spread[row * width + c] * rise;                                       \
            a[row * width + c] = y;                                                         \
            slopes[c] += rise;                                                              \
            grads[c] += v;                                                                  \
            slope_products[c] += rise * d;                                                  \
            grad_products[c] += v * d;                                                      \
        }                                                                                   \
    }
            PER_ACTIVATION(LOOP)
#undef LOOP
            add_product(a, 1, width, g, wide, count, product, wide, width, wide);
            for (long c = 0; c < 4 * width; c++) total[c] += slopes[c];
        }
        for (int k = 0; k < 4; k++)
            for (long c = 0; c < width; c++) sums[(k * photos + of.photo) * channels + of.first + c] = (float)total[k * width + c];
        for (long c = 0; c < width; c++)
            memcpy(products + (of.photo * channels + of.first + c) * outputs, product + c * wide, outputs * sizeof(float));
        free(product);
        free(total);
    }
}

/* norm_act_excite_grad of the gradient grad weight, with outputs x channels weights. */
void norm_act_project_grad(const element *grad, const element *x, element *x_grad, long photos, long rows, long channels, long outputs,
                           const float *weight, const float *gate, const float *gate_offset, const float *norm, const float *sums, int act,
                           float *grads, int threads) {
    const float *scale = norm, *shift = scale + channels;
    long per_photo = (rows + ROWS - 1) / ROWS, wide = padded(outputs);
    float *x_scale = malloc(2 * channels * sizeof(float)), *offset = x_scale + channels;
    double *totals = gated_sums(sums, gate, gate_offset, photos, channels);
    norm_offsets(norm, totals, photos * rows, channels, x_scale, offset, grads);
    free(totals);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long number = 0; number < photos * per_photo; number++) {
        Rows of = rows_of(number, per_photo, rows);
        float *g = calloc(ROWS * (wide + channels), sizeof(float)), *spread = g + ROWS * wide;
        const float *factor = gate + of.photo * channels, *more = gate_offset + of.photo * channels;
        copy_rows(grad + of.place * outputs, of.count, outputs, g);
        add_product(g, wide, 1, weight, channels, outputs, spread, channels, of.count, channels);
#define LOOP(ACT)                                                                            \
    for (long row = 0; row < of.count; row++) {                                              \
        const element *in = x + (of.place + row) * channels;                                 \
        element *out = x_grad + (of.place + row) * channels;                                 \
        _Pragma("omp simd") for (long c = 0; c < channels; c++) {                            \
            float y, value = get(in[c]), rise = slope(value * scale[c] + shift[c], ACT, &y); \
            float v = (spread[row * channels + c] * factor[c] + more[c]) * rise;             \
            out[c] = put(v * scale[c] + value * x_scale[c] + offset[c]);                     \
        }                                                                                    \
    }
        PER_ACTIVATION(LOOP)
#undef LOOP
        free(g);
    }
    free(x_scale);
}
