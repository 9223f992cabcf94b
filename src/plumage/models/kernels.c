/* Loops of a training step (kernels.py): batch norm with its activation, squeeze-and-excitation,
   and the backward pass of a depthwise convolution.
   Maps are float32 in channels_last memory: rows (N x H x W) of channels. Sums go to doubles after ROWS rows. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NONE, SILU, RELU6 };
#define BLOCK 16 /* channels at a time: one cache line, and registers enough for a row of a kernel's taps */
#define ROWS 64  /* rows summed in float before they go to a double */

/* e^x to 2e-7 of itself: 2^n times a polynomial (Cephes' expf). A call of libm would stop the compiler from using vectors. */
static inline float exp_(float x) {
    x = x > 88.f ? 88.f : x < -87.f ? -87.f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    int bits = ((int)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float activate(float x, int act) {
    if (act == SILU) return x / (1.f + exp_(-x));
    if (act == RELU6) return x < 0.f ? 0.f : x > 6.f ? 6.f : x;
    return x;
}

/* The derivative of the activation at x. */
static inline float slope(float x, int act) {
    if (act == SILU) {
        float s = 1.f / (1.f + exp_(-x));
        return s * (1.f + x * (1.f - s));
    }
    if (act == RELU6) return x > 0.f && x < 6.f ? 1.f : 0.f;
    return 1.f;
}

#define PER_ACTIVATION(CALL) \
    switch (act) { case SILU: CALL(SILU); break; case RELU6: CALL(RELU6); break; default: CALL(NONE); }

/* y = activation(x * scale + shift), a channel its own. */
void norm_act(const float *x, float *y, long rows, long channels, const float *scale, const float *shift, int act,
              int threads) {
#define LOOP(ACT)                                                                                        \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < rows; row++) { \
        const float *in = x + row * channels;                                                            \
        float *out = y + row * channels;                                                                 \
        _Pragma("omp simd") for (long c = 0; c < channels; c++) out[c] = activate(in[c] * scale[c] + shift[c], ACT); \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* Over all rows, sums[0][c] of v and sums[1][c] of v * (x - around). v is x - around where grad is NULL; else it is the gradient
   before the activation, grad * activation'(x * scale + shift). */
void channel_sums(const float *grad, const float *x, long rows, long channels, const float *scale, const float *shift,
                  const float *around, int act, double *sums, int threads) {
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
                const float *in = x + row * channels, *g = grad ? grad + row * channels : NULL;
#define ADD(V)                                                \
    _Pragma("omp simd") for (long c = 0; c < channels; c++) { \
        float d = in[c] - around[c], v = V;                   \
        sum[c] += v;                                          \
        product[c] += v * d;                                  \
    }
#define LOOP(ACT) ADD(g[c] * slope(in[c] * scale[c] + shift[c], ACT))
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

/* out = v * scale + x * slant + offset, v as above: the gradient before the norm. */
void norm_act_grad(const float *grad, const float *x, float *out, long rows, long channels, const float *scale,
                   const float *shift, const float *slant, const float *offset, int act, int threads) {
#define LOOP(ACT)                                                                                        \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < rows; row++) { \
        const float *in = x + row * channels, *g = grad + row * channels;                                \
        float *o = out + row * channels;                                                                 \
        _Pragma("omp simd") for (long c = 0; c < channels; c++)                                          \
            o[c] = g[c] * slope(in[c] * scale[c] + shift[c], ACT) * scale[c] + in[c] * slant[c] + offset[c]; \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* y = x * scale + shift, a channel of a photo its own. */
void excite(const float *x, float *y, long photos, long rows, long channels, const float *scale, const float *shift, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < photos * rows; row++) {
        const float *in = x + row * channels, *factor = scale + row / rows * channels, *offset = shift + row / rows * channels;
        float *out = y + row * channels;
#pragma omp simd
        for (long c = 0; c < channels; c++) out[c] = in[c] * factor[c] + offset[c];
    }
}

/* sums[photo][c] of x * grad. */
void excite_sums(const float *x, const float *grad, long photos, long rows, long channels, float *sums, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long photo = 0; photo < photos; photo++) {
        double *total = calloc(channels, sizeof(double));
        float *sum = malloc(channels * sizeof(float));
        for (long row = photo * rows, end = row + rows; row < end;) {
            long stop = row + ROWS < end ? row + ROWS : end;
            memset(sum, 0, channels * sizeof(float));
            for (; row < stop; row++) {
                const float *in = x + row * channels, *g = grad + row * channels;
#pragma omp simd
                for (long c = 0; c < channels; c++) sum[c] += in[c] * g[c];
            }
            for (long c = 0; c < channels; c++) total[c] += sum[c];
        }
        for (long c = 0; c < channels; c++) sums[photo * channels + c] = (float)total[c];
        free(sum);
        free(total);
    }
}

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
#define HALF (BLOCK / 2)
#define AT(pointer, place) (*(lanes *)((pointer) + (place)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 5")

typedef struct {
    long height, width;
} Map;

/* Adds to the columns first, first + stride ... before stop of a row of `out` what the taps `from`, from + stride ... bring there. */
INLINE void spread(const float *grad, const float *taps, float *out, long first, long stop, long shift, long width, long channels,
                   const int from, const int kernel, const int stride, const int inside) {
    const int count = (kernel - from + stride - 1) / stride;
    for (long x = first; x < stop; x += stride) {
        long column = (x + shift - from) / stride;
        lanes low = AT(out, x * channels), high = AT(out, x * channels + HALF);
        UNROLL for (int m = 0; m < count; m++) {
            if (!inside && (column < m || column - m >= width)) continue;
            const float *g = grad + (column - m) * channels, *w = taps + (from + m * stride) * channels;
            low += AT(g, 0) * AT(w, 0);
            high += AT(g, HALF) * AT(w, HALF);
        }
        AT(out, x * channels) = low;
        AT(out, x * channels + HALF) = high;
    }
}

/* Adds to the taps of a row of the kernel what the output columns first to stop bring. */
INLINE void gather(const float *x, const float *grad, lanes (*sum)[2], long first, long stop, long pad, long width, long channels,
                   const int kernel, const int stride, const int inside) {
    for (long column = first; column < stop; column++) {
        long left = column * stride - pad;
        lanes low = AT(grad, column * channels), high = AT(grad, column * channels + HALF);
        UNROLL for (int j = 0; j < kernel; j++) {
            if (!inside && (left + j < 0 || left + j >= width)) continue;
            sum[j][0] += low * AT(x, (left + j) * channels);
            sum[j][1] += high * AT(x, (left + j) * channels + HALF);
        }
    }
}

static inline long least(long a, long b) { return a < b ? a : b; }
static inline long most(long a, long b) { return a > b ? a : b; }

INLINE void input_grad(const float *grad, const float *taps, float *out, Map in, Map made, long channels, Map pad, const int kernel,
                       const int stride) {
    memset(out, 0, in.height * in.width * channels * sizeof(float));
    for (long y = 0; y < in.height; y++)
        for (long c = 0; c < channels; c += BLOCK)
            for (long i = (y + pad.height) % stride; i < kernel; i += stride) {
                long row = (y + pad.height - i) / stride;
                if (row < 0 || row >= made.height) continue;
                const float *g = grad + row * made.width * channels + c, *w = taps + i * kernel * channels + c;
                float *o = out + y * in.width * channels + c;
                UNROLL for (int from = 0; from < stride; from++) {
                    const int reach = (kernel - from + stride - 1) / stride - 1;
                    long first = ((from - pad.width) % stride + stride) % stride;
                    long start = most(first, reach * stride + from - pad.width);
                    start += ((first - start) % stride + stride) % stride;
                    long end = most(start, least(in.width, (made.width - 1) * stride + from - pad.width + 1));
                    end += ((first - end) % stride + stride) % stride;
                    spread(g, w, o, first, least(start, in.width), pad.width, made.width, channels, from, kernel, stride, 0);
                    spread(g, w, o, start, least(end, in.width), pad.width, made.width, channels, from, kernel, stride, 1);
                    spread(g, w, o, end, in.width, pad.width, made.width, channels, from, kernel, stride, 0);
                }
            }
}

INLINE void taps_grad(const float *x, const float *grad, float *out, Map in, Map made, long channels, Map pad, const int kernel,
                      const int stride) {
    long start = least(made.width, (pad.width + stride - 1) / stride);
    long end = most(start, least(made.width, (in.width - kernel + pad.width) / stride + 1));
    for (long y = 0; y < made.height; y++)
        for (long c = 0; c < channels; c += BLOCK)
            for (int i = 0; i < kernel; i++) {
                long row = y * stride + i - pad.height;
                if (row < 0 || row >= in.height) continue;
                lanes sum[5][2] = {{{0}}};
                const float *v = x + row * in.width * channels + c, *g = grad + y * made.width * channels + c;
                gather(v, g, sum, 0, start, pad.width, in.width, channels, kernel, stride, 0);
                gather(v, g, sum, start, end, pad.width, in.width, channels, kernel, stride, 1);
                gather(v, g, sum, end, made.width, pad.width, in.width, channels, kernel, stride, 0);
                UNROLL for (int j = 0; j < kernel; j++) {
                    AT(out, (i * kernel + j) * channels + c) += sum[j][0];
                    AT(out, (i * kernel + j) * channels + c + HALF) += sum[j][1];
                }
            }
}

/* A depthwise convolution's gradients. x: n x height x width, grad: n x out_height x out_width, each of channels, a multiple of
   BLOCK; taps: kernel x kernel x channels, kernel 3 or 5, stride 1 or 2. What lies outside of x is zero. */
void depthwise_grad(const float *x, const float *grad, const float *taps, float *x_grad, float *taps_grads, long n, long height,
                    long width, long out_height, long out_width, long channels, long kernel, long stride, long pad_height,
                    long pad_width, int threads) {
    Map in = {height, width}, made = {out_height, out_width}, pad = {pad_height, pad_width};
    long in_size = height * width * channels, out_size = out_height * out_width * channels, size = kernel * kernel * channels;
    float *parts = calloc(n * size, sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long photo = 0; photo < n; photo++) {
        const float *from = x + photo * in_size, *g = grad + photo * out_size;
        float *to = x_grad + photo * in_size, *part = parts + photo * size;
#define WITH(KERNEL, STRIDE)                                                       \
    if (kernel == KERNEL && stride == STRIDE) {                                    \
        taps_grad(from, g, part, in, made, channels, pad, KERNEL, STRIDE);         \
        input_grad(g, taps, to, in, made, channels, pad, KERNEL, STRIDE);          \
    }
        WITH(3, 1) WITH(3, 2) WITH(5, 1) WITH(5, 2)
#undef WITH
    }
    for (long i = 0; i < size; i++) {
        double sum = 0;
        for (long photo = 0; photo < n; photo++) sum += parts[photo * size + i];
        taps_grads[i] = (float)sum;
    }
    free(parts);
}
