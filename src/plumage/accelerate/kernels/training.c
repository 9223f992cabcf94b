/* A training step's kernels: batch norm with its activation. */

#include "common.h"

/* y = activation(x * scale + shift), with scale and shift per channel: the first of `norm`. */
void norm_act(const element *x, element *y, long rows, long channels, const float *norm, int act, int threads) {
    const float *scale = norm, *shift = scale + channels;
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
static void channel_sums(const element *grad, const element *x, long rows, long channels, const float *scale, const float *shift,
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

/* The mean and variance of each channel. */
static void channel_moments(const element *x, long rows, long channels, double *moments, int threads) {
    float *pivot = malloc(channels * sizeof(float)); /* differences from it keep their digits if the mean is large */
    for (long c = 0; c < channels; c++) pivot[c] = get(x[c]);
    channel_sums(NULL, x, rows, channels, NULL, NULL, pivot, NONE, moments, threads);
    for (long c = 0; c < channels; c++) {
        double offset = moments[c] / rows;
        moments[c] = pivot[c] + offset;
        moments[channels + c] = moments[channels + c] / rows - offset * offset;
    }
    free(pivot);
}

/* The batch norm of x, whose output is x * scale + shift: norm, 4 x channels, becomes scale, shift, mean and 1 / standard deviation, and
   the running statistics follow with the momentum. moments: 2 x channels, x's mean and variance; if NULL, they are computed. */
void batch_norm(const element *x, const double *moments, long rows, long channels, const float *weight, const float *bias, double eps,
                double momentum, float *norm, float *running_mean, float *running_var, long long *num_batches, int threads) {
    double *computed = malloc(2 * channels * sizeof(double));
    if (!moments) {
        channel_moments(x, rows, channels, computed, threads);
        moments = computed;
    }
    for (long c = 0; c < channels; c++) {
        double mean = moments[c], variance = moments[channels + c] < 0 ? 0 : moments[channels + c], inv_std = 1 / sqrt(variance + eps);
        norm[c] = (float)(weight[c] * inv_std);
        norm[channels + c] = (float)(bias[c] - mean * weight[c] * inv_std);
        norm[2 * channels + c] = (float)mean;
        norm[3 * channels + c] = (float)inv_std;
        running_mean[c] += (float)(momentum * (mean - running_mean[c]));
        running_var[c] += (float)(momentum * (variance * rows / most(1, rows - 1) - running_var[c]));
    }
    ++*num_batches;
    free(computed);
}

/* out: the gradient before the norm, v * scale + x * x_scale + offset, of the gradient v before the activation,
   (grad * gate + gate_offset) * activation'(x * scale + shift). Gate and gate_offset, per photo and channel, are NULL for ones and zeros.
   sums: per channel of v, and of v * (x - mean). grads: of the norm's weight and bias. */
void norm_gradient(const element *grad, const element *x, element *out, long photos, long rows, long channels, const float *gate,
                   const float *gate_offset, const float *norm, const double *sums, int act, float *grads, int threads) {
    const float *scale = norm, *shift = scale + channels;
    float *x_scale = malloc(4 * channels * sizeof(float)), *offset = x_scale + channels, *one = offset + channels, *zero = one + channels;
    norm_offsets(norm, sums, photos * rows, channels, x_scale, offset, grads);
    for (long c = 0; c < channels; c++) one[c] = 1.f, zero[c] = 0.f;
#define LOOP(ACT)                                                                                                      \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < photos * rows; row++) { \
        const element *in = x + row * channels, *g = grad + row * channels;                                            \
        const float *factor = gate ? gate + row / rows * channels : one;                                               \
        const float *more = gate ? gate_offset + row / rows * channels : zero;                                         \
        element *o = out + row * channels;                                                                             \
        _Pragma("omp simd") for (long c = 0; c < channels; c++) {                                                      \
            float y, value = get(in[c]), rise = slope(value * scale[c] + shift[c], ACT, &y);                           \
            float v = (get(g[c]) * factor[c] + more[c]) * rise;                                                        \
            o[c] = put(v * scale[c] + value * x_scale[c] + offset[c]);                                                 \
        }                                                                                                              \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
    free(x_scale);
}

/* The gradients of norm_act: of x, and those of the norm's weight and bias. */
void norm_act_grad(const element *grad, const element *x, element *x_grad, long rows, long channels, const float *norm, int act,
                   float *grads, int threads) {
    double *sums = malloc(2 * channels * sizeof(double));
    channel_sums(grad, x, rows, channels, norm, norm + channels, norm + 2 * channels, act, sums, threads);
    norm_gradient(grad, x, x_grad, 1, rows, channels, NULL, NULL, norm, sums, act, grads, threads);
    free(sums);
}
