/* Loops of a training step (kernels.py): batch norm with its activation, squeeze-and-excitation,
   and the backward pass of a depthwise convolution.
   Maps are in channels_last memory: rows (N x H x W) of channels, each an `element`, a float or, with BF16 defined, a bfloat16.
   All is computed in float. Sums go to doubles after ROWS rows. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NONE, SILU, RELU6 };
#define BLOCK 16 /* channels at a time: one cache line, and registers enough for a row of a kernel's taps */
#define ROWS 64  /* rows summed in float before they go to a double */

#ifdef BF16
typedef unsigned short element; /* the upper half of a float */
static inline float get(element x) {
    unsigned bits = (unsigned)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* To the nearest, of two as near to the even one; no number stays none. */
static inline element put(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    unsigned rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (element)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}
#else
typedef float element;
static inline float get(element x) { return x; }
static inline element put(float x) { return x; }
#endif

/* 1 / (1 + e^-x). e^y is 2^n times a polynomial of what is left: to 2e-7 of itself (Cephes' expf), in bfloat16 to 1e-4. A call of
   libm would stop the compiler from using vectors. */
static inline float sigmoid(float x) {
    const float to_integer = 12582912.f; /* 1.5 * 2^23: added, it leaves the nearest integer in the lowest bits */
    float y = x > 87.f ? -87.f : x < -87.f ? 87.f : -x;
    float shifted = y * 1.44269504f + to_integer, n = shifted - to_integer;
#ifdef BF16
    float r = y * 1.44269504f - n;
    float p = ((0.0555042f * r + 0.2402265f) * r + 0.6931472f) * r + 1.f;
#else
    float r = y - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
#endif
    unsigned power, bits;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += power << 23;
    memcpy(&p, &bits, sizeof p);
    return 1.f / (1.f + p);
}

static inline float activate(float x, int act) {
    if (act == SILU) return x * sigmoid(x);
    if (act == RELU6) return x < 0.f ? 0.f : x > 6.f ? 6.f : x;
    return x;
}

/* The derivative of the activation at x. */
static inline float slope(float x, int act) {
    if (act == SILU) {
        float s = sigmoid(x);
        return s * (1.f + x * (1.f - s));
    }
    if (act == RELU6) return x > 0.f && x < 6.f ? 1.f : 0.f;
    return 1.f;
}

#define PER_ACTIVATION(CALL) \
    switch (act) { case SILU: CALL(SILU); break; case RELU6: CALL(RELU6); break; default: CALL(NONE); }

/* y = activation(x * scale + shift), a channel its own. */
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

/* Over all rows, sums[0][c] of v and sums[1][c] of v * (x - around). v is x - around where grad is NULL; else it is the gradient
   before the activation, grad * activation'(x * scale + shift). */
void channel_sums(const element *grad, const element *x, long rows, long channels, const float *scale, const float *shift,
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
                const element *in = x + row * channels, *g = grad ? grad + row * channels : NULL;
#define ADD(V)                                                \
    _Pragma("omp simd") for (long c = 0; c < channels; c++) { \
        float d = get(in[c]) - around[c], v = V;              \
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

/* out = v * scale + x * slant + offset, v as above: the gradient before the norm. */
void norm_act_grad(const element *grad, const element *x, element *out, long rows, long channels, const float *scale,
                   const float *shift, const float *slant, const float *offset, int act, int threads) {
#define LOOP(ACT)                                                                                        \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long row = 0; row < rows; row++) { \
        const element *in = x + row * channels, *g = grad + row * channels;                              \
        element *o = out + row * channels;                                                               \
        _Pragma("omp simd") for (long c = 0; c < channels; c++) {                                        \
            float value = get(in[c]);                                                                    \
            o[c] = put(get(g[c]) * slope(value * scale[c] + shift[c], ACT) * scale[c] + value * slant[c] + offset[c]); \
        }                                                                                                \
    }
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* y = x * scale + offset, a value of a row its own. */
void normalise(const unsigned char *x, element *y, long rows, long values, const float *scale, const float *offset, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < rows; row++) {
        const unsigned char *in = x + row * values;
        element *out = y + row * values;
#pragma omp simd
        for (long i = 0; i < values; i++) out[i] = put(in[i] * scale[i] + offset[i]);
    }
}

/* y = x * scale + shift, a channel of a photo its own. */
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

/* sums[photo][c] of x * grad. */
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

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
#define HALF (BLOCK / 2)
#define AT(pointer, place) (*(lanes *)((pointer) + (place)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 5")

#ifdef BF16
typedef unsigned short narrow __attribute__((vector_size(16), aligned(2), may_alias));
typedef unsigned wide __attribute__((vector_size(32)));
INLINE lanes load(const element *from) { return (lanes)(__builtin_convertvector(*(const narrow *)from, wide) << 16); }
#else
INLINE lanes load(const element *from) { return AT(from, 0); }
#endif

typedef struct {
    long height, width;
} Map;

/* Adds to the columns first, first + stride ... before stop of `out`, each of BLOCK channels, what the taps `from`, from + stride ...
   bring there. */
INLINE void spread(const element *grad, const float *taps, float *out, long first, long stop, long shift, long width, long channels,
                   const int from, const int kernel, const int stride, const int inside) {
    const int count = (kernel - from + stride - 1) / stride;
    for (long x = first; x < stop; x += stride) {
        long column = (x + shift - from) / stride;
        lanes low = AT(out, x * BLOCK), high = AT(out, x * BLOCK + HALF);
        UNROLL for (int m = 0; m < count; m++) {
            if (!inside && (column < m || column - m >= width)) continue;
            const element *g = grad + (column - m) * channels;
            const float *w = taps + (from + m * stride) * channels;
            low += load(g) * AT(w, 0);
            high += load(g + HALF) * AT(w, HALF);
        }
        AT(out, x * BLOCK) = low;
        AT(out, x * BLOCK + HALF) = high;
    }
}

/* Adds to the taps of a row of the kernel what the output columns first to stop bring. */
INLINE void gather(const element *x, const element *grad, lanes (*sum)[2], long first, long stop, long pad, long width,
                   long channels, const int kernel, const int stride, const int inside) {
    for (long column = first; column < stop; column++) {
        long left = column * stride - pad;
        lanes low = load(grad + column * channels), high = load(grad + column * channels + HALF);
        UNROLL for (int j = 0; j < kernel; j++) {
            if (!inside && (left + j < 0 || left + j >= width)) continue;
            sum[j][0] += low * load(x + (left + j) * channels);
            sum[j][1] += high * load(x + (left + j) * channels + HALF);
        }
    }
}

static inline long least(long a, long b) { return a < b ? a : b; }
static inline long most(long a, long b) { return a > b ? a : b; }

/* `sums` has room for a row of BLOCK channels. */
INLINE void input_grad(const element *grad, const float *taps, element *out, float *sums, Map in, Map made, long channels, Map pad,
                       const int kernel, const int stride) {
    for (long y = 0; y < in.height; y++)
        for (long c = 0; c < channels; c += BLOCK) {
            memset(sums, 0, in.width * BLOCK * sizeof(float));
            for (long i = (y + pad.height) % stride; i < kernel; i += stride) {
                long row = (y + pad.height - i) / stride;
                if (row < 0 || row >= made.height) continue;
                const element *g = grad + row * made.width * channels + c;
                const float *w = taps + i * kernel * channels + c;
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

INLINE void taps_grad(const element *x, const element *grad, float *out, Map in, Map made, long channels, Map pad, const int kernel,
                      const int stride) {
    long start = least(made.width, (pad.width + stride - 1) / stride);
    long end = most(start, least(made.width, (in.width - kernel + pad.width) / stride + 1));
    for (long y = 0; y < made.height; y++)
        for (long c = 0; c < channels; c += BLOCK)
            for (int i = 0; i < kernel; i++) {
                long row = y * stride + i - pad.height;
                if (row < 0 || row >= in.height) continue;
                lanes sum[5][2] = {{{0}}};
                const element *v = x + row * in.width * channels + c, *g = grad + y * made.width * channels + c;
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
void depthwise_grad(const element *x, const element *grad, const float *taps, element *x_grad, float *taps_grads, long n,
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
#define WITH(KERNEL, STRIDE)                                                       \
    if (kernel == KERNEL && stride == STRIDE) {                                    \
        taps_grad(from, g, part, in, made, channels, pad, KERNEL, STRIDE);         \
        input_grad(g, taps, to, sums, in, made, channels, pad, KERNEL, STRIDE);    \
    }
        WITH(3, 1) WITH(3, 2) WITH(5, 1) WITH(5, 2)
#undef WITH
        free(sums);
    }
    for (long i = 0; i < size; i++) {
        double sum = 0;
        for (long photo = 0; photo < n; photo++) sum += parts[photo * size + i];
        taps_grads[i] = (float)sum;
    }
    free(parts);
}

typedef float block __attribute__((vector_size(64), aligned(4), may_alias));
#define WHOLE(pointer) (*(block *)(pointer))
#define COLUMNS 4 /* made at once: each tap is loaded once for all of them */

/* A row of the map plus `offset`, activated, as floats: block after block of channels, each `padded` floats from the last. */
INLINE void read_row(const element *x, const float *offset, float *row, long width, long blocks, long padded, int act) {
#define LOOP(ACT)                                               \
    for (long column = 0; column < width; column++)             \
        for (long part = 0; part < blocks; part++, x += BLOCK)  \
            _Pragma("omp simd") for (int k = 0; k < BLOCK; k++) \
                row[part * padded + column * BLOCK + k] = activate(get(x[k]) + offset[part * BLOCK + k], ACT);
    PER_ACTIVATION(LOOP)
#undef LOOP
}

/* An output row of BLOCK channels from the `kernel` rows `from`, each with its padding; NULL is a row of zeros. */
INLINE void convolve_row(float *const *from, const float *taps, block offset, float *out, long width, const int kernel,
                         const int stride) {
    long column = 0;
#define COLUMNS_OF(COUNT)                                                                                         \
    for (; column + COUNT <= width; column += COUNT) {                                                            \
        block sum[COUNT];                                                                                         \
        UNROLL for (int m = 0; m < COUNT; m++) sum[m] = offset;                                                   \
        for (int i = 0; i < kernel; i++) {                                                                        \
            if (!from[i]) continue;                                                                               \
            const float *row = from[i] + column * stride * BLOCK, *tap = taps + i * kernel * BLOCK;               \
            UNROLL for (int j = 0; j < kernel; j++) {                                                             \
                block weight = WHOLE(tap + j * BLOCK);                                                            \
                UNROLL for (int m = 0; m < COUNT; m++) sum[m] += WHOLE(row + (m * stride + j) * BLOCK) * weight;  \
            }                                                                                                     \
        }                                                                                                         \
        UNROLL for (int m = 0; m < COUNT; m++) WHOLE(out + (column + m) * BLOCK) = sum[m];                        \
    }
    COLUMNS_OF(COLUMNS)
    COLUMNS_OF(1)
#undef COLUMNS_OF
}

/* y = activation(convolution of activation_before(x + offset_before) + offset), depthwise, and each channel's sum over a photo's y.
   Shapes as for depthwise_grad, `taps` in blocks: channels / BLOCK x kernel x kernel x BLOCK. */
void depthwise_act(const element *x, element *y, const float *offset_before, const float *taps, const float *offset, float *sums,
                   long n, long height, long width, long out_height, long out_width, long channels, long kernel, long stride,
                   long pad_height, long pad_width, int act_before, int act, int threads) {
    long blocks = channels / BLOCK, padded = (most(width, (out_width - 1) * stride - pad_width + kernel) + pad_width) * BLOCK;
    long bands = n < threads ? threads : 1; /* of a photo */
    double *totals = calloc(n * bands * channels, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long job = 0; job < n * bands; job++) {
        float *rows = calloc(kernel * blocks * padded + out_width * BLOCK, sizeof(float)), *made = rows + kernel * blocks * padded;
        const element *in = x + job / bands * height * width * channels;
        double *total = totals + job * channels;
        long at = out_height * (job % bands) / bands, stop = out_height * (job % bands + 1) / bands;
        for (long read = most(0, at * stride - pad_height); at < stop; at++) {
            float *from[5];
            for (; read < least(height, at * stride - pad_height + kernel); read++)
                read_row(in + read * width * channels, offset_before, rows + read % kernel * blocks * padded + pad_width * BLOCK, width,
                         blocks, padded, act_before);
            for (long part = 0; part < blocks; part++) {
                for (long i = 0; i < kernel; i++) {
                    long row = at * stride - pad_height + i;
                    from[i] = row < 0 || row >= height ? NULL : rows + (row % kernel * blocks + part) * padded;
                }
                const float *tap = taps + part * kernel * kernel * BLOCK;
                block start = WHOLE(offset + part * BLOCK);
#define WITH(KERNEL, STRIDE) \
    if (kernel == KERNEL && stride == STRIDE) convolve_row(from, tap, start, made, out_width, KERNEL, STRIDE);
                WITH(3, 1) WITH(3, 2) WITH(5, 1) WITH(5, 2)
#undef WITH
                element *to = y + ((job / bands * out_height + at) * out_width * channels + part * BLOCK);
                float sum[BLOCK] = {0};
#define LOOP(ACT)                                                  \
    for (long column = 0; column < out_width; column++)            \
        _Pragma("omp simd") for (int k = 0; k < BLOCK; k++) {      \
            float value = activate(made[column * BLOCK + k], ACT); \
            sum[k] += value;                                       \
            to[column * channels + k] = put(value);                \
        }
                PER_ACTIVATION(LOOP)
#undef LOOP
                for (int k = 0; k < BLOCK; k++) total[part * BLOCK + k] += sum[k];
            }
        }
        free(rows);
    }
    for (long photo = 0; photo < n; photo++)
        for (long c = 0; c < channels; c++) {
            double sum = 0;
            for (long band = 0; band < bands; band++) sum += totals[(photo * bands + band) * channels + c];
            sums[photo * channels + c] = (float)sum;
        }
    free(totals);
}

typedef float colours __attribute__((vector_size(16), aligned(4), may_alias)); /* three, and one that is of no account */

/* What Pillow resamples with: the triangle, or Keys' cubic with a = -1/2. */
static inline float filter_at(float x, int cubic) {
    x = fabsf(x);
    if (!cubic) return x < 1.f ? 1.f - x : 0.f;
    if (x < 1.f) return (1.5f * x - 2.5f) * x * x + 1.f;
    return x < 2.f ? ((-0.5f * x + 2.5f) * x - 4.f) * x + 2.f : 0.f;
}

/* For each of `size` results the first of `from` values and the weights of `room` from there on; how many of them are not zero at the
   most. */
static long weigh(long from, long size, long room, int cubic, long *first, float *weights) {
    long used = 1;
    float scale = (float)from / size, wide = scale > 1.f ? scale : 1.f, reach = (cubic ? 2.f : 1.f) * wide;
    for (long at = 0; at < size; at++) {
        float centre = (at + 0.5f) * scale, sum = 0;
        long start = (long)fmaxf(0.f, centre - reach + 0.5f), stop = least(from, (long)(centre + reach + 0.5f));
        first[at] = start;
        for (long i = 0; i < room; i++) {
            float weight = start + i < stop ? filter_at((start + i - centre + 0.5f) / wide, cubic) : 0.f;
            weights[at * room + i] = weight;
            sum += weight;
            used = weight != 0.f ? most(used, i + 1) : used;
        }
        for (long i = 0; i < room; i++) weights[at * room + i] /= sum;
    }
    return used;
}

/* A row of `size` pixels from `taps` of another's each; what is at `weight` begins at the pixels `first`. */
INLINE void mix(const float *row, float *out, const long *first, const float *weights, long room, long size, int mirrored,
                const long taps) {
    for (long column = 0; column < size; column++) {
        long from = mirrored ? size - 1 - column : column;
        const float *in = row + first[from] * 3, *weight = weights + from * room;
        colours sum = {0};
        for (long i = 0; i < taps; i++) sum += weight[i] * *(const colours *)(in + i * 3);
        *(colours *)(out + column * 3) = sum;
    }
}

/* `down` x `across` pixels of three bytes, their rows `stride` bytes apart, to size x size of them, mirrored or not; where it shrinks,
   each result is a mean of all that it covers. */
void resample(const unsigned char *x, long stride, long down, long across, unsigned char *y, long size, int cubic, int mirrored) {
    long rooms[2], sides[2] = {down, across};
    for (int axis = 0; axis < 2; axis++) {
        float scale = (float)sides[axis] / size;
        rooms[axis] = (long)ceilf((cubic ? 4.f : 2.f) * (scale > 1.f ? scale : 1.f)) + 2;
    }
    long *firsts = malloc(2 * size * sizeof(long)), width = across * 3;
    /* A row takes `rooms` more values, as weights that are zero reach beyond its end. */
    float *weights = malloc((size * (rooms[0] + rooms[1]) + width + (rooms[1] + 2) * 3 + size * 3 + 1) * sizeof(float));
    float *columns = weights + size * rooms[0], *row = columns + size * rooms[1], *made = row + width + (rooms[1] + 2) * 3;
    weigh(down, size, rooms[0], cubic, firsts, weights);
    long taps = weigh(across, size, rooms[1], cubic, firsts + size, columns);
    memset(row + width, 0, (rooms[1] + 2) * 3 * sizeof(float));
    for (long at = 0; at < size; at++) {
        memset(row, 0, width * sizeof(float));
        for (long i = 0; i < rooms[0] && firsts[at] + i < down; i++) {
            const unsigned char *in = x + (firsts[at] + i) * stride;
            float weight = weights[at * rooms[0] + i];
            if (weight == 0.f) continue;
#pragma omp simd
            for (long k = 0; k < width; k++) row[k] += weight * in[k];
        }
#define WITH(TAPS) case TAPS: mix(row, made, firsts + size, columns, rooms[1], size, mirrored, TAPS); break;
        switch (taps) {
            WITH(1) WITH(2) WITH(3) WITH(4) WITH(5) WITH(6)
            default: mix(row, made, firsts + size, columns, rooms[1], size, mirrored, taps);
        }
#undef WITH
        unsigned char *out = y + at * size * 3;
#pragma omp simd
        for (long k = 0; k < size * 3; k++) {
            float value = made[k] + 0.5f;
            out[k] = (unsigned char)(int)(value < 0.f ? 0.f : value > 255.f ? 255.f : value);
        }
    }
    free(weights);
    free(firsts);
}
