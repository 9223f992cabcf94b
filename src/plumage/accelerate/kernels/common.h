/* Shared by all kernels. Feature maps are in channels_last memory: rows (N x H x W) of channels. An `element` is a float, or a
   bfloat16 if BF16 is defined; arithmetic is in float. */

#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NONE, SILU, RELU6 };
#define BLOCK 16 /* channels at a time: one cache line of floats */
#define ROWS 64 /* rows summed in float before the sum is added to a double */

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#ifdef __AVX512F__
#define LANES 16 /* floats per register */
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define VECTORS (BLOCK / LANES)
typedef float lanes __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
#define AT(pointer, place) (*(lanes *)((pointer) + (place)))

static inline long least(long a, long b) { return a < b ? a : b; }
static inline long most(long a, long b) { return a > b ? a : b; }

#ifdef BF16
typedef unsigned short element; /* the upper half of a float */
static inline float get(element x) {
    unsigned bits = (unsigned)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Round to nearest, ties to even; NaN stays NaN. */
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

/* 1 / (1 + e^-x), with e^y = 2^n * polynomial(remainder): error 2e-7 (Cephes' expf), in bfloat16 1e-4. libm would not vectorise. */
static inline float sigmoid(float x) {
    const float to_integer = 12582912.f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    int bits;
    unsigned power;
    memcpy(&bits, &x, sizeof bits);
    bits = bits < 0x42ae0000 ? bits : 0x42ae0000; /* at most 87, and below at least -87: as integers, since compilers don't */
    power = (unsigned)bits < 0xc2ae0000 ? (unsigned)bits : 0xc2ae0000; /* vectorise a float's limits well */
    memcpy(&x, &power, sizeof x);
    float shifted = x * -1.44269504f + to_integer, n = shifted - to_integer;
#ifdef BF16
    float r = x * -1.44269504f - n;
    float p = ((0.0555042f * r + 0.2402265f) * r + 0.6931472f) * r + 1.f;
#else
    float r = -x - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
#endif
    memcpy(&power, &shifted, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += (int)(power << 23);
    memcpy(&p, &bits, sizeof p);
    return 1.f / (1.f + p);
}

static inline float activate(float x, int act) {
    if (act == SILU) return x * sigmoid(x);
    if (act == RELU6) return x < 0.f ? 0.f : x > 6.f ? 6.f : x;
    return x;
}

/* The derivative of the activation at x, of which `*y` becomes the activation. */
static inline float slope(float x, int act, float *y) {
    if (act == SILU) {
        float s = sigmoid(x);
        *y = x * s;
        return s + *y * (1.f - s);
    }
    *y = activate(x, act);
    if (act == RELU6) return x > 0.f && x < 6.f ? 1.f : 0.f;
    return 1.f;
}

#define PER_ACTIVATION(CALL) \
    switch (act) { case SILU: CALL(SILU); break; case RELU6: CALL(RELU6); break; default: CALL(NONE); }

/* Channels `first` to `stop` of a photo: what a thread computes at a time. */
typedef struct {
    long photo, first, stop;
} Task;

/* Photos share the threads; if there are few of them, so do parts of their channels. */
static inline long parts(long photos, long channels, int threads) {
    return most(1, least(channels / BLOCK, (4L * threads + photos - 1) / photos));
}

static inline Task task(long number, long parts, long channels) {
    long part = number % parts, blocks = channels / BLOCK;
    return (Task){number / parts, blocks * part / parts * BLOCK, part + 1 < parts ? blocks * (part + 1) / parts * BLOCK : channels};
}

/* Of a batch norm, 4 x channels, and of the gradient before the activation, its sums and those of its product with x - mean: what times
   x, and what, is added to that gradient times scale, for the gradient of x; and the gradients of the norm's weight and bias. */
static inline void norm_offsets(const float *norm, const double *sums, long rows, long channels, float *x_scale, float *offset,
                                float *grads) {
    for (long c = 0; c < channels; c++) {
        double scale = norm[c], mean = norm[2 * channels + c], inv_std = norm[3 * channels + c];
        double factor = -scale * inv_std * inv_std * sums[channels + c] / rows;
        x_scale[c] = (float)factor;
        offset[c] = (float)(-scale * sums[c] / rows - factor * mean);
        grads[c] = (float)(sums[channels + c] * inv_std);
        grads[channels + c] = (float)sums[c];
    }
}
void norm_gradient(const element *grad, const element *x, element *out, long photos, long rows, long channels, const float *gate,
                   const float *gate_offset, const float *norm, const double *sums, int act, float *grads, int threads);
