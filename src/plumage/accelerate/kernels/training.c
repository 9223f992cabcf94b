/* A training step's kernels: batch norm with its activation, squeeze-and-excitation, depthwise convolution backward. */

#include "common.h"

#define ROWS 64 /* rows summed in float before the sum is added to a double */

/* y = activation(x * scale + shift), with scale and shift per channel. */
void norm_act(const element *x, element *y, long rows, long channels, const float *scale, const float *shift, int act,
              int threads) {
#define LOOP(ACT)                                                                                        \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < rows; row++) { \
        const element *in = x + row * channels;                                                          \
        element *out = y + row * channels;                                                               \
        _Pragma("omp simd") for (long c = 0; c < channels; c++)                                          \
            out[c] = put(activate(get(in[c]) * scale[c] + shift[c], ACT));                               \
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
        float d = get(in[c]) - pivot[c], v = V;              \
        sum[c] += v;                                          \
        product[c] += v * d;                                  \
    }
#define LOOP(ACT) ADD(get(g[c]) * slope(get(in[c]) * scale[c] + shift[c], ACT))
                if (g)
                    PER_ACTIVATION(LOOP)
                else
                    ADD(d)
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

/* out = v * scale + x * x_scale + offset: the gradient before the norm. v is the gradient before the activation, as above. */
void norm_act_grad(const element *grad, const element *x, element *out, long rows, long channels, const float *scale,
                   const float *shift, const float *x_scale, const float *offset, int act, int threads) {
#define LOOP(ACT)                                                                                        \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < rows; row++) { \
        const element *in = x + row * channels, *g = grad + row * channels;                              \
        element *o = out + row * channels;                                                               \
        _Pragma("omp simd") for (long c = 0; c < channels; c++) {                                        \
            float value = get(in[c]);                                                                    \
            o[c] = put(get(g[c]) * slope(value * scale[c] + shift[c], ACT) * scale[c] + value * x_scale[c] + offset[c]); \
        }                                                                                                \
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

/* sums[photo][c]: x * grad summed over the rows of the photo. */
void excite_sums(const element *x, const element *grad, long photos, long rows, long channels, float *sums, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long photo = 0; photo < photos; photo++) {
        double *total = calloc(channels, sizeof(double));
        float *sum = malloc(channels * sizeof(float));
        for (long row = photo * rows, end = row + rows; row < end;) {
            long stop = row + ROWS < end ? row + ROWS : end;
            memset(sum, 0, channels * sizeof(float));
            for (; row < stop; row++) {
                const element *in = x + row * channels, *g = grad + row * channels;
#pragma omp simd
                for (long c = 0; c < channels; c++) sum[c] += get(in[c]) * get(g[c]);
            }
            for (long c = 0; c < channels; c++) total[c] += sum[c];
        }
        for (long c = 0; c < channels; c++) sums[photo * channels + c] = (float)total[c];
        free(sum);
        free(total);
    }
}

#ifdef BF16
typedef unsigned short narrow __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef unsigned wide __attribute__((vector_size(LANES * 4)));
INLINE lanes load(const element *from) { return (lanes)(__builtin_convertvector(*(const narrow *)from, wide) << 16); }
#else
INLINE lanes load(const element *from) { return AT(from, 0); }
#endif

typedef struct {
    long height, width;
} Map;

/* Adds the weights' columns from, from + stride ... times grad to the columns first, first + stride ... before stop of `out`, each of
   BLOCK channels. `inside`: every column of grad that they need exists. */
INLINE void spread(const element *grad, const float *weight, float *out, long first, long stop, long shift, long width, long channels,
                   const int from, const int kernel, const int stride, const int inside) {
    const int count = (kernel - from + stride - 1) / stride;
    for (long x = first; x < stop; x += stride) {
        long column = (x + shift - from) / stride;
        lanes sum[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) sum[v] = AT(out, x * BLOCK + v * LANES);
        UNROLL for (int m = 0; m < count; m++) {
            if (!inside && (column < m || column - m >= width)) continue;
            const element *g = grad + (column - m) * channels;
            const float *w = weight + (from + m * stride) * channels;
            UNROLL for (int v = 0; v < VECTORS; v++) sum[v] += load(g + v * LANES) * AT(w, v * LANES);
        }
        UNROLL for (int v = 0; v < VECTORS; v++) AT(out, x * BLOCK + v * LANES) = sum[v];
    }
}

/* Adds the output columns first to stop to the gradient of one row of the weights. */
INLINE void gather(const element *x, const element *grad, lanes (*sum)[VECTORS], long first, long stop, long pad, long width,
                   long channels, const int kernel, const int stride, const int inside) {
    for (long column = first; column < stop; column++) {
        long left = column * stride - pad;
        lanes g[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) g[v] = load(grad + column * channels + v * LANES);
        UNROLL for (int j = 0; j < kernel; j++) {
            if (!inside && (left + j < 0 || left + j >= width)) continue;
            UNROLL for (int v = 0; v < VECTORS; v++) sum[j][v] += g[v] * load(x + (left + j) * channels + v * LANES);
        }
    }
}

/* The gradient with respect to the input of one photo. `sums` has room for a row of BLOCK channels. */
INLINE void input_grad(const element *grad, const float *weight, element *out, float *sums, Map in, Map made, long channels, Map pad,
                       const int kernel, const int stride) {
    for (long y = 0; y < in.height; y++)
        for (long c = 0; c < channels; c += BLOCK) {
            memset(sums, 0, in.width * BLOCK * sizeof(float));
            for (long i = (y + pad.height) % stride; i < kernel; i += stride) {
                long row = (y + pad.height - i) / stride;
                if (row < 0 || row >= made.height) continue;
                const element *g = grad + row * made.width * channels + c;
                const float *w = weight + i * kernel * channels + c;
                UNROLL for (int from = 0; from < stride; from++) {
                    const int reach = (kernel - from + stride - 1) / stride - 1;
                    long first = ((from - pad.width) % stride + stride) % stride;
                    long start = most(first, reach * stride + from - pad.width);
                    start += ((first - start) % stride + stride) % stride;
                    long end = most(start, least(in.width, (made.width - 1) * stride + from - pad.width + 1));
                    end += ((first - end) % stride + stride) % stride;
                    spread(g, w, sums, first, least(start, in.width), pad.width, made.width, channels, from, kernel, stride, 0);
                    spread(g, w, sums, start, least(end, in.width), pad.width, made.width, channels, from, kernel, stride, 1);
                    spread(g, w, sums, end, in.width, pad.width, made.width, channels, from, kernel, stride, 0);
                }
            }
            element *o = out + y * in.width * channels + c;
            for (long x = 0; x < in.width; x++)
#pragma omp simd
                for (int k = 0; k < BLOCK; k++) o[x * channels + k] = put(sums[x * BLOCK + k]);
        }
}

/* The gradient with respect to the weights, of one photo. */
INLINE void weight_grad(const element *x, const element *grad, float *out, Map in, Map made, long channels, Map pad, const int kernel,
                      const int stride) {
    long start = least(made.width, (pad.width + stride - 1) / stride);
    long end = most(start, least(made.width, (in.width - kernel + pad.width) / stride + 1));
    for (long y = 0; y < made.height; y++)
        for (long c = 0; c < channels; c += BLOCK)
            for (int i = 0; i < kernel; i++) {
                long row = y * stride + i - pad.height;
                if (row < 0 || row >= in.height) continue;
                lanes sum[5][VECTORS] = {{{0}}};
                const element *v = x + row * in.width * channels + c, *g = grad + y * made.width * channels + c;
                gather(v, g, sum, 0, start, pad.width, in.width, channels, kernel, stride, 0);
                gather(v, g, sum, start, end, pad.width, in.width, channels, kernel, stride, 1);
                gather(v, g, sum, end, made.width, pad.width, in.width, channels, kernel, stride, 0);
                UNROLL for (int j = 0; j < kernel; j++)
                    UNROLL for (int v = 0; v < VECTORS; v++) AT(out, (i * kernel + j) * channels + c + v * LANES) += sum[j][v];
            }
}

/* A depthwise convolution's gradients. x: n x height x width, grad: n x out_height x out_width, each of channels, a multiple of
   BLOCK; weight: kernel x kernel x channels, kernel 3 or 5, stride 1 or 2. x is zero outside its borders. */
void depthwise_grad(const element *x, const element *grad, const float *weight, element *x_grad, float *weight_grads, long n,
                    long height, long width, long out_height, long out_width, long channels, long kernel, long stride,
                    long pad_height, long pad_width, int threads) {
    Map in = {height, width}, made = {out_height, out_width}, pad = {pad_height, pad_width};
    long in_size = height * width * channels, out_size = out_height * out_width * channels, size = kernel * kernel * channels;
    float *parts = calloc(n * size, sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long photo = 0; photo < n; photo++) {
        const element *from = x + photo * in_size, *g = grad + photo * out_size;
        element *to = x_grad + photo * in_size;
        float *part = parts + photo * size, *sums = malloc(width * BLOCK * sizeof(float));
#define WITH(KERNEL, STRIDE)                                                      \
    if (kernel == KERNEL && stride == STRIDE) {                                   \
        weight_grad(from, g, part, in, made, channels, pad, KERNEL, STRIDE);      \
        input_grad(g, weight, to, sums, in, made, channels, pad, KERNEL, STRIDE); \
    }
        WITH(3, 1) WITH(3, 2) WITH(5, 1) WITH(5, 2)
#undef WITH
        free(sums);
    }
    for (long i = 0; i < size; i++) {
        double sum = 0;
        for (long photo = 0; photo < n; photo++) sum += parts[photo * size + i];
        weight_grads[i] = (float)sum;
    }
    free(parts);
}
