/* A training step's kernels: batch norm with its activation, alone or with the layer that follows it: a depthwise convolution or
   squeeze-and-excitation. */

#include "common.h"

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
