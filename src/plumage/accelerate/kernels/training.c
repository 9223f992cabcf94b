/* A training step's kernels: batch norm with its activation. */

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
