/* The layers of alphareel's own networks, in 16-bit integers.
 *
 * Tensors are float (height, width, channels); channels are padded with zeros to a multiple of 16. Convolutions over
 * channels round each pixel to 14 bits by its own largest value and each output's weights to 14 bits by theirs, and
 * add up products in 32-bit integers, which no sum can overflow: see alphareel_pack. Everything
 * else is float. Functions return 0, or -1 when memory is short. Why: docs/decisions/0059-integer-network.md.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"

/* What a layer does to its sums. */
enum { LINEAR, RELU, RELU6, SIGMOID, TANH };

/* Output channels that are computed together: so many vectors of 16. */
#define LANES 16
#define MOST_VECTORS 4
#define MOST_PIXELS 6
#define LARGEST 8191.0f

/* A convolution over channels. ``weights``: [vector of outputs][pair of inputs][16][2]. ``scale``: of a weight's unit.
 * ``pairs``: of inputs, padded. ``chunk``: pairs whose products cannot overflow. ``outputs``: padded. */
typedef struct {
    const int16_t *weights;
    const float *scale, *bias;
    int32_t pairs, chunk, outputs, activation;
} Pointwise;

/* A convolution within channels: ``weights`` (side, side, channels). Padding before the first pixel is ``before``. */
typedef struct {
    const float *weights, *bias;
    int32_t side, stride, before, activation;
} Depthwise;

/* A convolution of three planes (3, height, width), times ``factor``, minus ``shift``, with stride 2 and padding after the
 * last pixel. ``weights``: (3, side, side, outputs); the side is 2 or 3. The width is a multiple of 16. */
typedef struct {
    const float *planes, *weights, *bias;
    float factor, shift;
    int32_t height, width, side, outputs, activation;
} Picture;

#if defined(__x86_64__) && defined(__GNUC__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 9)
#include <immintrin.h>
#define FAST __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,avx2")))

EXPORT int alphareel_network_supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/* Like expf, for vectors: 2^n * p(r), relative error below 2e-7. */
FAST INLINE __m512 exponential(__m512 x)
{
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(88.0f)), _mm512_set1_ps(-87.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

FAST INLINE __m512 activated(__m512 value, int activation)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    if (activation == RELU || activation == RELU6)
        value = _mm512_max_ps(value, _mm512_setzero_ps());
    if (activation == RELU6)
        value = _mm512_min_ps(value, _mm512_set1_ps(6.0f));
    if (activation == SIGMOID)
        value = _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), value))));
    if (activation == TANH) { /* 1 - 2 / (e^2x + 1) */
        __m512 e = exponential(_mm512_add_ps(value, value));
        value = _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(e, one)));
    }
    return value;
}

/* Round ``count`` pixels to 16 bits, by the largest value of each four: to ``out`` (count, pairs of two) and the value of a
 * pixel's unit to ``unit`` (count). Writes up to LANES pairs more than that; the padding of a pixel may reach into the next
 * one, which is written later. */
FAST static void quantize(const float *values, int count, int channels, int pairs, int32_t *out, float *unit)
{
    for (int first = 0; first < count; first += 4) {
        int stop = first + 4 < count ? first + 4 : count;
        const float *row = values + (size_t)first * channels;
        int together = (stop - first) * channels;
        __m512 most = _mm512_setzero_ps();
        for (int n = 0; n < together; n += LANES)
            most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(row + n)));
        float largest = _mm512_reduce_max_ps(most);
        __m512 scale = _mm512_set1_ps(largest > 1e-20f ? LARGEST / largest : 0.0f);
        for (int p = first; p < stop; p++) {
            int16_t *to = (int16_t *)(out + (size_t)p * pairs);
            row = values + (size_t)p * channels;
            unit[p] = largest / LARGEST;
            for (int c = 0; c < channels; c += LANES) {
                __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(row + c), scale));
                _mm256_storeu_si256((__m256i *)(to + c), _mm512_cvtepi32_epi16(rounded));
            }
        }
    }
}

/* For each of the pixels, and each of its vectors of outputs, that a tile has at most. Compilers keep single variables in
 * registers, but not arrays. */
#define PIXELS(DO, V) DO(0, V) DO(1, V) DO(2, V) DO(3, V) DO(4, V) DO(5, V)
#define TILE_PIXELS(DO) PIXELS(DO, 0) PIXELS(DO, 1) PIXELS(DO, 2) PIXELS(DO, 3)
#define CLEAR(p, v) __m512i t##p##v = _mm512_setzero_si512();
#define LOAD(v) __m512i w##v = v < V ? _mm512_loadu_si512(at + (size_t)v * weights_step) : _mm512_setzero_si512();
/* _mm512_dpwssd_epi32 of a vector of weights and one pair of inputs. GCC 12 surrounds the intrinsic with copies. */
#define PRODUCT(p, v)                                                                                                  \
    if (p < P && v < V)                                                                                                \
        __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(t##p##v) : "v"(w##v), "m"(from[(size_t)p * pairs]));
#define COLLECT(p, v)                                                                                                  \
    if (p < P && v < V) {                                                                                              \
        __m512 part = _mm512_cvtepi32_ps(t##p##v);                                                                     \
        sums[p][v] = start ? _mm512_add_ps(sums[p][v], part) : part;                                                   \
    }
#define FINISH(p, v)                                                                                                   \
    if (p < P && v < V)                                                                                                \
        finish(call, start ? _mm512_add_ps(sums[p][v], _mm512_cvtepi32_ps(t##p##v)) : _mm512_cvtepi32_ps(t##p##v),     \
               vector, pixel + p, v);

/* One convolution over channels: of pixels in 16 bits, ``input`` (count, pairs), whose units are worth ``unit`` (count).
 * ``add``: like the output, or NULL. In the output, pixels and vectors of 16 channels are so many values apart. */
typedef struct {
    const Pointwise *layer;
    const int32_t *input;
    const float *unit, *add;
    float *out;
    size_t pixel_step, vector_step;
    float lowest, highest;
} Call;

FAST INLINE void finish(const Call *call, __m512 sum, int vector, size_t pixel, int v)
{
    const Pointwise *layer = call->layer;
    __m512 scale = _mm512_loadu_ps(layer->scale + (vector + v) * LANES);
    scale = _mm512_mul_ps(scale, _mm512_set1_ps(call->unit[pixel]));
    __m512 value = _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(layer->bias + (vector + v) * LANES));
    size_t to = pixel * call->pixel_step + (size_t)(vector + v) * call->vector_step;
    if (call->add)
        value = _mm512_add_ps(value, _mm512_loadu_ps(call->add + to));
    value = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(call->lowest)), _mm512_set1_ps(call->highest));
    _mm512_storeu_ps(call->out + to, value);
}

/* ``P`` pixels from ``pixel`` on, of ``V`` vectors of outputs from ``vector`` on. */
FAST INLINE void tile(const Call *call, int vector, size_t pixel, const int P, const int V)
{
    const Pointwise *layer = call->layer;
    int pairs = layer->pairs, start = 0;
    size_t weights_step = (size_t)pairs * 2 * LANES;
    const int16_t *at = layer->weights + (size_t)vector * weights_step;
    const int32_t *from = call->input + pixel * pairs;
    __m512 sums[MOST_PIXELS][MOST_VECTORS];
    for (;; start += layer->chunk) {
        int stop = start + layer->chunk < pairs ? start + layer->chunk : pairs;
        TILE_PIXELS(CLEAR)
        for (int k = start; k < stop; k++, at += 2 * LANES, from++) {
            LOAD(0) LOAD(1) LOAD(2) LOAD(3)
            TILE_PIXELS(PRODUCT)
        }
        if (stop == pairs) {
            TILE_PIXELS(FINISH)
            return;
        }
        TILE_PIXELS(COLLECT)
    }
}

#define TILE(P, V)                                                                                                     \
    FAST static void tile_##P##_##V(const Call *call, int vector, size_t pixel) { tile(call, vector, pixel, P, V); }
#define TILES(P) TILE(P, 1) TILE(P, 2) TILE(P, 3) TILE(P, 4)
TILES(1)
TILES(2)
TILES(4)
TILES(6)
typedef void (*TileFunction)(const Call *, int, size_t);
#define ROW(P) {tile_##P##_1, tile_##P##_2, tile_##P##_3, tile_##P##_4}
static const TileFunction TILE_FUNCTIONS[MOST_PIXELS + 1][MOST_VECTORS] = {
    [1] = ROW(1), [2] = ROW(2), [4] = ROW(4), [6] = ROW(6)};

static void convolve(const Call *call, int count)
{
    int vectors = call->layer->outputs / LANES, groups = (vectors + MOST_VECTORS - 1) / MOST_VECTORS, first = 0;
    for (int g = 0; g < groups; g++) {
        int size = (vectors - first) / (groups - g);
        for (int p = 0; p < count;) {
            int left = count - p, pixels = left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            TILE_FUNCTIONS[pixels][size - 1](call, first, p);
            p += pixels;
        }
        first += size;
    }
}

static float lowest_of(int activation) { return activation == RELU || activation == RELU6 ? 0.0f : -INFINITY; }
static float highest_of(int activation) { return activation == RELU6 ? 6.0f : INFINITY; }

static Call call_of(const Pointwise *layer, const int32_t *input, const float *unit, const float *add, float *out)
{
    return (Call){layer, input, unit, add, out, layer->outputs, LANES, lowest_of(layer->activation),
                  highest_of(layer->activation)};
}

/* ``activation`` of all values, in place or not. */
FAST EXPORT int alphareel_activate(const float *input, int64_t count, int activation, float *out)
{
    for (int64_t n = 0; n < count; n += LANES)
        _mm512_storeu_ps(out + n, activated(_mm512_loadu_ps(input + n), activation));
    return 0;
}

#define BATCH 96 /* pixels that are rounded at once */

/* A convolution over the channels of ``count`` pixels. ``channels``: of the input, padded. */
EXPORT int alphareel_pointwise(const Pointwise *layer, const float *input, int count, int channels, const float *add,
                               float *out)
{
    int32_t *rounded = malloc(((size_t)BATCH * layer->pairs + LANES) * sizeof(int32_t));
    float unit[BATCH];
    if (!rounded)
        return -1;
    for (int p = 0; p < count; p += BATCH) {
        int some = count - p < BATCH ? count - p : BATCH;
        size_t at = (size_t)p * layer->outputs;
        quantize(input + (size_t)p * channels, some, channels, layer->pairs, rounded, unit);
        Call call = call_of(layer, rounded, unit, add ? add + at : NULL, out + at);
        convolve(&call, some);
        if (layer->activation > RELU6)
            alphareel_activate(out + at, (int64_t)some * layer->outputs, layer->activation, out + at);
    }
    free(rounded);
    return 0;
}

/* Pixels of a row of a convolution within channels, for one vector of them. ``rows``: of that vector, from the first
 * column. ``out``: float, or ``rounded``: 16 bits with a unit of 6 / LARGEST; both so many values apart. */
FAST INLINE void depthwise_vector(const Depthwise *layer, const float *const *rows, int channels, int at, int width,
                                  float *out, int16_t *rounded, size_t out_step, const int side, const int stride)
{
    __m512 w[25], bias = _mm512_loadu_ps(layer->bias + at);
    __m512 lowest = _mm512_set1_ps(lowest_of(layer->activation)), highest = _mm512_set1_ps(highest_of(layer->activation));
    const __m512 unit = _mm512_set1_ps(LARGEST / 6.0f);
#pragma GCC unroll 25
    for (int t = 0; t < side * side; t++)
        w[t] = _mm512_loadu_ps(layer->weights + (size_t)t * channels + at);
    for (int x = 0; x < width; x += 4) {
        __m512 s0 = bias, s1 = bias, s2 = bias, s3 = bias;
#pragma GCC unroll 5
        for (int ky = 0; ky < side; ky++) {
            const float *row = rows[ky] + (size_t)x * stride * LANES;
#pragma GCC unroll 5
            for (int kx = 0; kx < side; kx++) {
                s0 = _mm512_fmadd_ps(_mm512_loadu_ps(row + kx * LANES), w[ky * side + kx], s0);
                s1 = _mm512_fmadd_ps(_mm512_loadu_ps(row + (stride + kx) * LANES), w[ky * side + kx], s1);
                s2 = _mm512_fmadd_ps(_mm512_loadu_ps(row + (2 * stride + kx) * LANES), w[ky * side + kx], s2);
                s3 = _mm512_fmadd_ps(_mm512_loadu_ps(row + (3 * stride + kx) * LANES), w[ky * side + kx], s3);
            }
        }
        __m512 sum[4] = {s0, s1, s2, s3};
        int some = width - x < 4 ? width - x : 4;
        for (int n = 0; n < some; n++) {
            __m512 value = _mm512_min_ps(_mm512_max_ps(sum[n], lowest), highest);
            size_t to = (size_t)(x + n) * out_step + at;
            if (rounded)
                _mm256_storeu_si256((__m256i *)(rounded + to),
                                    _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(value, unit))));
            else
                _mm512_storeu_ps(out + to, value);
        }
    }
}

#define DEPTHWISE(SIDE, STRIDE)                                                                                        \
    FAST static void depthwise_##SIDE##_##STRIDE(const Depthwise *layer, const float *const *rows, int channels,       \
                                                 int at, int width, float *out, int16_t *rounded, size_t step)         \
    {                                                                                                                  \
        depthwise_vector(layer, rows, channels, at, width, out, rounded, step, SIDE, STRIDE);                          \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)

/* Pixels of (width, channels) as vectors of 16 channels, each of ``step`` values. */
FAST static void arrange(const float *input, int width, int channels, float *out, size_t step)
{
    for (int c = 0; c < channels; c += LANES)
        for (int x = 0; x < width; x++)
            _mm512_storeu_ps(out + (size_t)(c / LANES) * step + (size_t)x * LANES,
                             _mm512_loadu_ps(input + (size_t)x * channels + c));
}

#define EIGHT(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define START(n) __m512 s##n = add ? _mm512_add_ps(bias, _mm512_loadu_ps(out + n * LANES)) : bias;
#define MULTIPLY_ADD(n) s##n = _mm512_fmadd_ps(_mm512_set1_ps(from[2 * n + k]), w, s##n);
#define STORE(n) _mm512_storeu_ps(out + n * LANES, activated(s##n, activation));

/* Eight pixels of one vector of outputs. ``rows``: of the three planes, ``side`` of each, from the first column on. */
FAST INLINE void picture_pixels(const float *rows, int padded, const float *weights, int outputs, __m512 bias, int add,
                                int activation, float *out, const int side)
{
    EIGHT(START)
#pragma GCC unroll 9
    for (int r = 0; r < 3 * side; r++) {
        const float *from = rows + (size_t)r * padded;
#pragma GCC unroll 3
        for (int k = 0; k < side; k++) {
            __m512 w = _mm512_loadu_ps(weights + ((size_t)r * side + k) * outputs);
            EIGHT(MULTIPLY_ADD)
        }
    }
    EIGHT(STORE)
}

/* A row of the convolution of the picture, vector by vector. ``rows``: 9 * (width + LANES) zeros or what was left there.
 * ``add``: whether it is added to what the row holds. */
FAST static void picture_row(const Picture *picture, int y, float *rows, int add, float *out, size_t step)
{
    int width = picture->width, side = picture->side, outputs = picture->outputs, padded = width + LANES;
    const __m512 factor = _mm512_set1_ps(picture->factor), shift = _mm512_set1_ps(picture->shift);
    for (int r = 0; r < 3 * side; r++) {
        float *to = rows + (size_t)r * padded;
        int row = 2 * y + r % side, inside = row < picture->height;
        const float *from = picture->planes + ((size_t)(r / side) * picture->height + (inside ? row : 0)) * width;
        for (int x = 0; x < width; x += LANES)
            _mm512_storeu_ps(to + x, inside ? _mm512_fmsub_ps(_mm512_loadu_ps(from + x), factor, shift)
                                            : _mm512_setzero_ps());
    }
    for (int c = 0; c < outputs; c += LANES) {
        __m512 bias = _mm512_loadu_ps(picture->bias + c);
        for (int x = 0; x < width / 2; x += 8) {
            float *to = out + (c / LANES) * step + (size_t)x * LANES;
            if (side == 3)
                picture_pixels(rows + 2 * x, padded, picture->weights + c, outputs, bias, add, picture->activation, to, 3);
            else
                picture_pixels(rows + 2 * x, padded, picture->weights + c, outputs, bias, add, picture->activation, to, 2);
        }
    }
}

/* A convolution over channels (``expand``), or of the picture, or their sum; then one within channels, and one over them
 * (``project``), row by row. Without ``expand`` and ``picture``, the input is what the second one reads.
 *
 * ``input``: (height, width, channels). ``middle``: channels between. ``add``: like the output, or NULL. Between the
 * first two, a row is stored vector by vector, so that it is read in order.
 */
EXPORT int alphareel_block(const Pointwise *expand, const Picture *picture, const Depthwise *layer,
                           const Pointwise *project, const float *input, int height, int width, int channels, int middle, const float *add,
                           float *out)
{
    int side = layer->side, stride = layer->stride, before = layer->before, result = -1;
    int after = stride == 1 ? before : side - 2 - before;
    int out_height = (height + before + after - side) / stride + 1, out_width = (width + before + after - side) / stride + 1;
    /* rows of the output that are projected at once, so that weights are read less often */
    int batch = out_width >= 64 ? 1 : (64 + out_width - 1) / out_width, whole = layer->activation == RELU6;
    int ring = (batch - 1) * stride + side, pairs = expand ? expand->pairs : 1;
    size_t vector = (size_t)(width + 16) * LANES, /* a row with zeros on both sides */
         row_size = vector * (middle / LANES);
    size_t pixels = (size_t)batch * out_width;
    float *rows = malloc((size_t)(ring + 1) * row_size * sizeof(float)); /* the last one is zero */
    float *between = malloc(whole ? 1 : pixels * middle * sizeof(float));
    int32_t *rounded = malloc((pixels * project->pairs + LANES) * sizeof(int32_t));
    int32_t *rounded_input = malloc(((size_t)width * pairs + LANES) * sizeof(int32_t));
    float *unit = malloc((pixels + width) * sizeof(float)), *input_unit = unit + pixels;
    float *picture_rows = calloc(picture ? (size_t)9 * (picture->width + LANES) : 1, sizeof(float));
    if (!rows || !between || !rounded || !rounded_input || !unit || !picture_rows)
        goto end;
    for (size_t p = 0; p < pixels; p++)
        unit[p] = 6.0f / LARGEST;
    memset(rows + (size_t)ring * row_size, 0, row_size * sizeof(float));
    for (size_t n = 0; n < (size_t)ring * (middle / LANES); n++) { /* beside the pixels of each row */
        memset(rows + n * vector, 0, (size_t)before * LANES * sizeof(float));
        memset(rows + n * vector + (size_t)(before + width) * LANES, 0, (16 - before) * LANES * sizeof(float));
    }
    int ready = 0; /* rows of the input that are in the ring */
    for (int y = 0; y < out_height; y += batch) {
        int count = out_height - y < batch ? out_height - y : batch;
        int last = (y + count - 1) * stride - before + side;
        for (; ready < (last < height ? last : height); ready++) {
            float *row = rows + (size_t)(ready % ring) * row_size + (size_t)before * LANES;
            const float *from = input ? input + (size_t)ready * width * channels : NULL;
            if (expand) {
                quantize(from, width, channels, pairs, rounded_input, input_unit);
                Call call = call_of(expand, rounded_input, input_unit, NULL, row);
                call.pixel_step = LANES;
                call.vector_step = vector;
                convolve(&call, width);
            } else if (!picture)
                arrange(from, width, channels, row, vector);
            if (picture)
                picture_row(picture, ready, picture_rows, expand != NULL, row, vector);
        }
        for (int n = 0; n < count; n++)
            for (int c = 0; c < middle; c += LANES) {
                const float *window[5];
                for (int k = 0; k < side; k++) {
                    int at = (y + n) * stride - before + k;
                    window[k] = rows + (size_t)(at < 0 || at >= height ? ring : at % ring) * row_size + vector * (c / LANES);
                }
                float *to = between + (whole ? 0 : (size_t)n * out_width * middle);
                int16_t *to_rounded = whole ? (int16_t *)(rounded + (size_t)n * out_width * project->pairs) : NULL;
                (side == 3 ? stride == 1 ? depthwise_3_1 : depthwise_3_2 : stride == 1 ? depthwise_5_1 : depthwise_5_2)(
                    layer, window, middle, c, out_width, to, to_rounded, middle);
            }
        size_t at = (size_t)y * out_width * project->outputs;
        if (!whole)
            quantize(between, count * out_width, middle, project->pairs, rounded, unit);
        Call call = call_of(project, rounded, unit, add ? add + at : NULL, out + at);
        convolve(&call, count * out_width);
    }
    result = 0;
end:
    free(rows);
    free(between);
    free(rounded);
    free(rounded_input);
    free(unit);
    free(picture_rows);
    return result;
}

/* Twice the size, bilinear between pixel centers, plus ``add`` of that size (or NULL), with an activation. */
FAST EXPORT int alphareel_double(const float *input, int height, int width, int channels, const float *add,
                                 int activation, float *out)
{
    const __m512 far = _mm512_set1_ps(0.25f), near = _mm512_set1_ps(0.75f);
    for (int y = 0; y < 2 * height; y++) {
        int at = y / 2, beside = y % 2 ? (at + 1 < height ? at + 1 : at) : (at > 0 ? at - 1 : 0);
        const float *a = input + (size_t)at * width * channels, *b = input + (size_t)beside * width * channels;
        for (int c = 0; c < channels; c += LANES)
            for (int x = 0; x < width; x++) {
                __m512 mixed[3];
                for (int n = 0; n < 3; n++) {
                    int column = x + n - 1 < 0 ? 0 : x + n - 1 >= width ? width - 1 : x + n - 1;
                    size_t from = (size_t)column * channels + c;
                    mixed[n] = _mm512_fmadd_ps(near, _mm512_loadu_ps(a + from), _mm512_mul_ps(far, _mm512_loadu_ps(b + from)));
                }
                for (int n = 0; n < 2; n++) {
                    size_t to = ((size_t)y * 2 * width + 2 * x + n) * channels + c;
                    __m512 value = _mm512_fmadd_ps(near, mixed[1], _mm512_mul_ps(far, mixed[2 * n]));
                    if (add)
                        value = _mm512_add_ps(value, _mm512_loadu_ps(add + to));
                    _mm512_storeu_ps(out + to, activated(value, activation));
                }
            }
    }
    return 0;
}

/* alphareel_combine: a op b. ``repeat``: values of b, which are used again and again. */
enum { ADD, MULTIPLY, SUBTRACT };
FAST EXPORT int alphareel_combine(int operation, const float *a, const float *b, int64_t count, int64_t repeat, float *out)
{
    for (int64_t n = 0; n < count; n += LANES) {
        __m512 x = _mm512_loadu_ps(a + n), y = _mm512_loadu_ps(b + n % repeat);
        _mm512_storeu_ps(out + n, operation == ADD ? _mm512_add_ps(x, y) : operation == MULTIPLY ? _mm512_mul_ps(x, y) : _mm512_sub_ps(x, y));
    }
    return 0;
}
#else
EXPORT int alphareel_network_supported(void) { return 0; }
#endif

/* Round the weights (outputs, inputs) of each output to 14 bits, relative to the largest of them.
 *
 * ``packed``: [LANES outputs][pair of inputs][LANES][2]. ``scale``: what a unit is worth, for each output. Returns how many
 * pairs of inputs can be added up in 32 bits, whatever the inputs: as many as parts of equal size allow. */
EXPORT int alphareel_pack(const float *weights, int outputs, int inputs, int16_t *packed, float *scale)
{
    int pairs = inputs / 2, parts = 1;
    for (int n = 0; n < outputs; n++) {
        const float *row = weights + (size_t)n * inputs;
        float largest = 1e-20f;
        for (int k = 0; k < inputs; k++)
            largest = fabsf(row[k]) > largest ? fabsf(row[k]) : largest;
        scale[n] = largest / LARGEST;
        int16_t *to = packed + (size_t)(n / LANES) * pairs * 2 * LANES + n % LANES * 2;
        for (int k = 0; k < inputs; k++)
            to[(size_t)(k / 2) * 2 * LANES + k % 2] = (int16_t)rintf(row[k] * (LARGEST / largest));
        for (;; parts++) {
            int chunk = (pairs + parts - 1) / parts, most = 0, sum = 0;
            for (int k = 0; k < pairs; k++) {
                const int16_t *pair = to + (size_t)k * 2 * LANES;
                sum = (k % chunk ? sum : 0) + abs(pair[0]) + abs(pair[1]);
                most = sum > most ? sum : most;
            }
            if (most <= INT32_MAX / (int)LARGEST)
                break;
        }
    }
    return (pairs + parts - 1) / parts;
}

/* Copy ``channels`` of each of ``count`` pixels from one tensor into another. */
EXPORT int alphareel_copy(const float *input, int count, int from, int from_channels, int channels, int to,
                          int to_channels, float *out)
{
    for (int p = 0; p < count; p++)
        memcpy(out + (size_t)p * to_channels + to, input + (size_t)p * from_channels + from, channels * sizeof(float));
    return 0;
}

/* The mean of all pixels, one pixel. */
EXPORT int alphareel_mean(const float *input, int count, int channels, float *out)
{
    memset(out, 0, channels * sizeof(float));
    for (int p = 0; p < count; p++)
        for (int c = 0; c < channels; c++)
            out[c] += input[(size_t)p * channels + c];
    for (int c = 0; c < channels; c++)
        out[c] /= (float)count;
    return 0;
}

/* Each pixel with its eight neighbors, zero outside: (height, width, 9 * channels). */
EXPORT int alphareel_unfold(const float *input, int height, int width, int channels, float *out)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < 9; k++) {
                int row = y + k / 3 - 1, column = x + k % 3 - 1;
                float *to = out + (((size_t)y * width + x) * 9 + k) * channels;
                if (row < 0 || row >= height || column < 0 || column >= width)
                    memset(to, 0, channels * sizeof(float));
                else
                    memcpy(to, input + ((size_t)row * width + column) * channels, channels * sizeof(float));
            }
    return 0;
}

/* The first four channels as a picture (2 * height, 2 * width). */
EXPORT int alphareel_shuffle(const float *input, int height, int width, int channels, float *out)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < 4; k++)
                out[((size_t)2 * y + k / 2) * 2 * width + 2 * x + k % 2] = input[((size_t)y * width + x) * channels + k];
    return 0;
}
