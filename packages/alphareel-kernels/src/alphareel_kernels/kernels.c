/* The pixel loops of alphareel: refinement of a small matte, and the removal of the old background's color.
 *
 * Plain C without Python: alphareel/imaging/kernels.py calls it through ctypes, which releases the GIL. Every function
 * computes what the NumPy code beside its caller computes, within one level, and touches only pixels that are soft.
 * Planes are 8-bit with a stride in bytes. Functions return 0, or -1 when memory is short.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
/* One build for every processor: the loader picks the clone. */
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif
/* For loops that also gain from AVX-512, which only newer compilers can pick at run time. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define WIDE_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define WIDE_CLONES CLONES
#endif

#define BLOCK 16        /* columns of the small matte that are processed or skipped together */
#define CHUNK 32        /* pixels of a plane that are unmixed or copied together */
#define TERMS 6         /* aY, lowest, highest at full width; aU, aV, b at half width */
#define PRODUCTS 13

/* Raised with every change of a function's arguments. alphareel uses no library of another version. */
EXPORT int alphareel_version(void) { return 3; }

INLINE int clamped(int value, int count) { return value < 0 ? 0 : value >= count ? count - 1 : value; }
INLINE float smaller(float a, float b) { return a < b ? a : b; }
INLINE float larger(float a, float b) { return a > b ? a : b; }

/* Where a target pixel lies between two source pixels: index of the first, weight of the second (as OpenCV's linear). */
INLINE int position(int target, int source_count, int target_count, float *weight)
{
    double at = (target + 0.5) * source_count / target_count - 0.5;
    int index = (int)floor(at);
    *weight = (float)(at - index);
    if (index < 0 || index >= source_count - 1) {
        *weight = 0;
        index = clamped(index, source_count);
    }
    return index;
}

/* Indices and weights of a row's pixels. The second source pixel is ``next``, which never leaves the row. */
static void positions(int source_count, int target_count, int32_t *first, int32_t *next, float *weight)
{
    for (int x = 0; x < target_count; x++) {
        first[x] = position(x, source_count, target_count, &weight[x]);
        next[x] = clamped(first[x] + 1, source_count);
    }
}

/* ---------------------------------------------------------------------------------------------------- refinement */

/* 3x3 means of a row of ``values`` (PRODUCTS rows of ``width`` + 2 vertical sums) into ``mean``. */
CLONES
static void fit_row(const float *restrict sums, int stride, int start, int stop, float eps, float *restrict sy,
                    float *restrict su, float *restrict sv)
{
    const float n = 1.0f / 9.0f;
    for (int x = start; x < stop; x++) {
        float m[PRODUCTS];
        for (int k = 0; k < PRODUCTS; k++) {
            const float *s = sums + (size_t)k * stride + x;
            m[k] = (s[0] + s[1] + s[2]) * n;
        }
        float yy = m[4] - m[0] * m[0] + eps, yu = m[5] - m[0] * m[1], yv = m[6] - m[0] * m[2];
        float uu = m[7] - m[1] * m[1] + eps, uv = m[8] - m[1] * m[2], vv = m[9] - m[2] * m[2] + eps;
        float ya = m[10] - m[0] * m[3], ua = m[11] - m[1] * m[3], va = m[12] - m[2] * m[3];
        float c00 = uu * vv - uv * uv, c01 = yv * uv - yu * vv, c02 = yu * uv - yv * uu;
        float c11 = yy * vv - yv * yv, c12 = yu * yv - yy * uv, c22 = yy * uu - yu * yu;
        float scale = 1.0f / (yy * c00 + yu * c01 + yv * c02);
        sy[x] = (c00 * ya + c01 * ua + c02 * va) * scale;
        su[x] = (c01 * ya + c11 * ua + c12 * va) * scale;
        sv[x] = (c02 * ya + c12 * ua + c22 * va) * scale;
    }
}

CLONES
static void multiply_row(const float *restrict a, const float *restrict b, int count, float *restrict out)
{
    for (int x = 0; x < count; x++)
        out[x] = a[x] * b[x];
}

/* The PRODUCTS of one row of the guide (0..1) and alpha, padded by one replicated pixel on each side. */
static void product_row(const float *const planes[4], int width, float *out, int stride)
{
    static const uint8_t factors[PRODUCTS - 4][2] = {{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 2}, {0, 3}, {1, 3}, {2, 3}};
    for (int k = 0; k < PRODUCTS; k++) {
        float *row = out + (size_t)k * stride;
        if (k < 4)
            memcpy(row + 1, planes[k], (size_t)width * sizeof(float));
        else
            multiply_row(planes[factors[k - 4][0]], planes[factors[k - 4][1]], width, row + 1);
        row[0] = row[1];
        row[width + 1] = row[width];
    }
}

CLONES
static void add_rows(const float *restrict a, const float *restrict b, const float *restrict c, int count,
                     float *restrict out)
{
    for (int x = 0; x < count; x++)
        out[x] = a[x] + b[x] + c[x];
}

CLONES
static void scale_row(const uint8_t *restrict row, int count, float *restrict out)
{
    for (int x = 0; x < count; x++)
        out[x] = row[x] * (1.0f / 255.0f);
}

/* Means of 3x3 slopes, masked, and the offset that keeps the network's alpha; b and alpha times 255. ``sy`` and its
 * kind: sums of three rows, padded by one pixel. */
CLONES
static void term_row(const float *restrict sy, const float *restrict su, const float *restrict sv,
                     const float *restrict y, const float *restrict u, const float *restrict v,
                     const float *restrict a, const uint8_t *restrict soft, int width, float *restrict ty,
                     float *restrict tu, float *restrict tv, float *restrict tb)
{
    const float n = 1.0f / 9.0f;
    for (int x = 0; x < width; x++) {
        float on = soft[x] ? n : 0.0f;
        float ay = (sy[x] + sy[x + 1] + sy[x + 2]) * on;
        float au = (su[x] + su[x + 1] + su[x + 2]) * on;
        float av = (sv[x] + sv[x + 1] + sv[x + 2]) * on;
        ty[x] = ay;
        tu[x] = au;
        tv[x] = av;
        tb[x] = (a[x] - ay * y[x] - au * u[x] - av * v[x]) * 255.0f;
    }
}

CLONES
static void expand_any(const float *restrict source, const int32_t *restrict first, const int32_t *restrict next,
                       const float *restrict weight, int start, int stop, float *restrict out)
{
    for (int x = start; x < stop; x++) {
        float a = source[first[x]];
        out[x] = a + weight[x] * (source[next[x]] - a);
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* The same, eight at a time. Processors pick from eight values in a register faster than from memory. */
__attribute__((target("avx2"))) static void expand_eight(const float *restrict source, int count,
                                                         const int32_t *restrict first, const int32_t *restrict next,
                                                         const float *restrict weight, int start, int stop,
                                                         float *restrict out)
{
    int x = start;
    for (; x + 8 <= stop; x += 8) {
        int base = first[x];
        if (next[x + 7] - base > 7 || base + 8 > count)
            break;
        __m256 eight = _mm256_loadu_ps(source + base);
        __m256i from = _mm256_set1_epi32(base);
        __m256i low = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)(first + x)), from);
        __m256i high = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)(next + x)), from);
        __m256 a = _mm256_permutevar8x32_ps(eight, low), b = _mm256_permutevar8x32_ps(eight, high);
        _mm256_storeu_ps(out + x, _mm256_add_ps(a, _mm256_mul_ps(_mm256_loadu_ps(weight + x), _mm256_sub_ps(b, a))));
    }
    expand_any(source, first, next, weight, x, stop, out);
}
#endif

/* Pixels start to stop of a row of ``count`` values that is enlarged. */
static void expand_row(const float *source, int count, const int32_t *first, const int32_t *next, const float *weight,
                       int start, int stop, float *out)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        expand_eight(source, count, first, next, weight, start, stop, out);
        return;
    }
#endif
    (void)count;
    expand_any(source, first, next, weight, start, stop, out);
}

/* Terms with chroma of one row at half size: b + aU * U + aV * V, between two expanded rows. */
CLONES
static void chroma_row(const float *restrict top, const float *restrict bottom, int stride, float weight,
                       const uint8_t *restrict u, const uint8_t *restrict v, int start, int stop, float *restrict out)
{
    for (int x = start; x < stop; x++) {
        float tu = top[x] + weight * (bottom[x] - top[x]);
        float tv = top[stride + x] + weight * (bottom[stride + x] - top[stride + x]);
        float tb = top[2 * stride + x] + weight * (bottom[2 * stride + x] - top[2 * stride + x]);
        out[x] = tb + tu * u[x] + tv * v[x];
    }
}

/* One row of alpha: the chroma terms doubled in width, the luma term, the bounds. Columns are of half size. ``mixed``:
 * half_width + 2 floats; ``doubled``: twice half_width. */
CLONES
static void alpha_row(const float *restrict near, const float *restrict far, float *restrict mixed,
                      float *restrict doubled, int half_width, const float *restrict top,
                      const float *restrict bottom, int stride, float weight, const uint8_t *restrict luma, int start,
                      int stop, uint8_t *restrict out)
{
    int first = start > 0 ? start - 1 : 0, last = stop < half_width ? stop + 1 : half_width;
    for (int k = first; k < last; k++)
        mixed[k + 1] = 0.75f * near[k] + 0.25f * far[k];
    if (start == 0)
        mixed[0] = mixed[1];
    if (stop == half_width)
        mixed[half_width + 1] = mixed[half_width];
    for (int k = start; k < stop; k++) {
        doubled[2 * k] = 0.75f * mixed[k + 1] + 0.25f * mixed[k];
        doubled[2 * k + 1] = 0.75f * mixed[k + 1] + 0.25f * mixed[k + 2];
    }
    for (int x = 2 * start; x < 2 * stop; x++) {
        float slope = top[x] + weight * (bottom[x] - top[x]);
        float lowest = top[stride + x] + weight * (bottom[stride + x] - top[stride + x]);
        float highest = top[2 * stride + x] + weight * (bottom[2 * stride + x] - top[2 * stride + x]);
        float value = doubled[x] + slope * luma[x];
        out[x] = (uint8_t)(smaller(larger(value, lowest), highest) + 0.5f);
    }
}

/* 1 where the matte is soft or differs from the next pixel; the last column and row have no next. */
CLONES
static void step_row(const float *restrict row, const float *restrict under, const uint8_t *restrict certain, int width,
                     uint8_t *restrict out)
{
    for (int x = 0; x < width - 1; x++)
        out[x] = (uint8_t)(1 - certain[x]) | (uint8_t)(row[x] != row[x + 1]) | (uint8_t)(row[x] != under[x]);
    out[width - 1] = (uint8_t)(1 - certain[width - 1]) | (uint8_t)(row[width - 1] != under[width - 1]);
}

/* 1 where a pixel or one of its eight neighbors is set. ``scratch``: width + 2, its ends zero. */
CLONES
static void dilate_row(const uint8_t *restrict above, const uint8_t *restrict here, const uint8_t *restrict below,
                       int width, uint8_t *restrict scratch, uint8_t *restrict out)
{
    for (int x = 0; x < width; x++)
        scratch[x + 1] = above[x] | here[x] | below[x];
    for (int x = 0; x < width; x++)
        out[x] = scratch[x] | scratch[x + 1] | scratch[x + 2];
}

/* 1 where the matte is soft or steps, with one pixel of margin. ``steps``: a scratch of the same size and 2 more. */
static void soft_mask(const float *small, const uint8_t *certain, int width, int height, uint8_t *steps, uint8_t *soft)
{
    size_t area = (size_t)width * height;
    for (int y = 0; y < height; y++)
        step_row(small + (size_t)y * width, small + (size_t)clamped(y + 1, height) * width,
                 certain + (size_t)y * width, width, steps + (size_t)y * width);
    uint8_t *scratch = steps + area;
    scratch[0] = scratch[width + 1] = 0;
    for (int y = 0; y < height; y++)
        dilate_row(steps + (size_t)clamped(y - 1, height) * width, steps + (size_t)y * width,
                   steps + (size_t)clamped(y + 1, height) * width, width, scratch, soft + (size_t)y * width);
}

/* Lowest and highest level (0..255, rounded) within one pixel. ``scratch``: 2 * width floats. */
CLONES
static void bound_row(const float *restrict above, const float *restrict here, const float *restrict below, int width,
                      float *restrict scratch, float *restrict lowest, float *restrict highest)
{
    float *low = scratch, *high = scratch + width;
    for (int x = 0; x < width; x++) {
        low[x] = smaller(smaller(above[x], here[x]), below[x]);
        high[x] = larger(larger(above[x], here[x]), below[x]);
    }
    for (int x = 0; x < width; x++) {
        int left = x > 0 ? x - 1 : 0, right = x < width - 1 ? x + 1 : x;
        float a = smaller(smaller(low[left], low[x]), low[right]), b = larger(larger(high[left], high[x]), high[right]);
        lowest[x] = (float)(int)(a * 255.0f + 0.5f);
        highest[x] = (float)(int)(b * 255.0f + 0.5f);
    }
}

INLINE int any_set(const uint8_t *row, int start, int stop)
{
    int any = 0;
    for (int x = start; x < stop; x++)
        any |= row[x];
    return any;
}

/* For each row and block of columns: whether a pixel in or next to it is soft, in rows y - 1 to y + 2. */
CLONES
static void active_blocks(const uint8_t *soft, int width, int height, int blocks, uint8_t *active)
{
    memset(active, 0, (size_t)blocks * height);
    for (int y = 0; y < height; y++)
        for (int b = 0; b < blocks; b++) {
            int start = b * BLOCK - 2, stop = (b + 1) * BLOCK + 2;
            if (any_set(soft + (size_t)y * width, start < 0 ? 0 : start, stop > width ? width : stop))
                for (int row = clamped(y - 2, height); row <= clamped(y + 1, height); row++)
                    active[(size_t)row * blocks + b] = 1;
        }
}

/* Terms that give the matte itself: no slopes, and its levels as offset and bounds. */
CLONES
static void plain_terms(const float *restrict small, size_t area, float *restrict terms)
{
    memset(terms, 0, area * sizeof(float));
    memset(terms + 3 * area, 0, 2 * area * sizeof(float));
    for (size_t n = 0; n < area; n++) {
        float level = small[n] * 255.0f;
        terms[area + n] = terms[2 * area + n] = (float)(int)(level + 0.5f);
        terms[5 * area + n] = level;
    }
}

typedef struct {
    const float *small;   /* alpha 0..1, (height, width) */
    const float *guide;   /* Y, U, V 0..1, (3, height, width) */
    const uint8_t *soft;
    int width, height;
} Matte;

/* Terms aY, lowest, highest, aU, aV, b of the small matte, (TERMS, height, width), in rows with an active block. */
static int fit(const Matte *m, const uint8_t *active, int blocks, float eps, float *terms)
{
    int w = m->width, h = m->height, stride = w + 2;
    size_t area = (size_t)w * h, row_size = (size_t)PRODUCTS * stride;
    float *memory = calloc(row_size * 4 + (size_t)9 * stride + 2 * (size_t)w, sizeof(float));
    if (!memory)
        return -1;
    float *ring[3] = {memory, memory + row_size, memory + 2 * row_size}, *sums = memory + 3 * row_size;
    float *slopes = memory + 4 * row_size, *scratch = slopes + (size_t)9 * stride;
    int last_product = -2, last_slope = -2; /* the newest row in each ring */
    for (int y = 0; y < h; y++) {
        const uint8_t *row = active + (size_t)y * blocks;
        int any = 0;
        for (int b = 0; b < blocks; b++)
            any |= row[b];
        if (!any)
            continue;
        /* slopes of rows y - 1 to y + 1 */
        for (int s = last_slope < y - 2 ? y - 1 : last_slope + 1; s <= y + 1; s++) {
            int at = clamped(s, h);
            for (int p = last_product < at - 2 ? at - 1 : last_product + 1; p <= at + 1; p++) {
                size_t from = (size_t)clamped(p, h) * w;
                const float *rows[4] = {m->guide + from, m->guide + area + from, m->guide + 2 * area + from,
                                        m->small + from};
                product_row(rows, w, ring[(p + 3) % 3], stride);
                last_product = p;
            }
            add_rows(ring[(at + 2) % 3], ring[(at + 3) % 3], ring[(at + 4) % 3], (int)row_size, sums);
            float *out = slopes + (size_t)((s + 3) % 3) * 3 * stride;
            fit_row(sums, stride, 0, w, eps, out + 1, out + stride + 1, out + 2 * stride + 1);
            for (int k = 0; k < 3; k++) {
                out[k * stride] = out[k * stride + 1];
                out[k * stride + w + 1] = out[k * stride + w];
            }
            last_slope = s;
        }
        size_t at = (size_t)y * w;
        add_rows(slopes, slopes + (size_t)3 * stride, slopes + (size_t)6 * stride, 3 * stride, sums);
        term_row(sums, sums + stride, sums + 2 * (size_t)stride, m->guide + at, m->guide + area + at,
                 m->guide + 2 * area + at, m->small + at, m->soft + at, w, terms + at, terms + 3 * area + at,
                 terms + 4 * area + at, terms + 5 * area + at);
        bound_row(m->small + (size_t)clamped(y - 1, h) * w, m->small + at, m->small + (size_t)clamped(y + 1, h) * w, w,
                  scratch, terms + area + at, terms + 2 * area + at);
    }
    free(memory);
    return 0;
}

typedef struct {
    int32_t *first, *next;
    float *weight;
} Positions;

static void *positions_memory(int count, Positions *p)
{
    char *memory = malloc((size_t)count * 12 + 64);
    if (memory) {
        p->first = (int32_t *)memory;
        p->next = p->first + count;
        p->weight = (float *)(p->next + count);
    }
    return memory;
}

typedef struct {
    int start, stop; /* pixels of half size */
} Range;

/* For each row of the small matte: the columns that rows y - 2 to y + 2 need, with a margin. Empty where none. */
static void needed_ranges(const uint8_t *active, int blocks, int width, int height, int half_width, Range *ranges)
{
    for (int y = 0; y < height; y++) {
        int first = blocks, last = -1;
        for (int row = clamped(y - 2, height); row <= clamped(y + 2, height); row++)
            for (int b = 0; b < blocks; b++)
                if (active[(size_t)row * blocks + b]) {
                    first = b < first ? b : first;
                    last = b > last ? b : last;
                }
        int start = (int)((int64_t)first * BLOCK * half_width / width) - 2;
        int stop = (int)((int64_t)(last + 1) * BLOCK * half_width / width) + 2;
        ranges[y].start = start < 0 ? 0 : start;
        ranges[y].stop = stop > half_width || last == blocks - 1 ? half_width : stop;
        if (last < 0)
            ranges[y].start = ranges[y].stop = 0;
    }
}

/* The four newest rows of the terms, at full width and at half width. ``at``: which rows they are. */
typedef struct {
    const float *terms;
    size_t area;
    const Positions *full, *half;
    const Range *ranges;
    int small_width, width, half_width;
    float *full_rows, *half_rows;
    int at[4];
} Expanded;

static int expanded_row(Expanded *e, int row)
{
    int slot = row % 4;
    Range range = e->ranges[row];
    if (e->at[slot] == row)
        return slot;
    for (int t = 0; t < 3; t++) {
        const float *from = e->terms + (size_t)row * e->small_width;
        expand_row(from + t * e->area, e->small_width, e->full->first, e->full->next, e->full->weight, 2 * range.start,
                   2 * range.stop, e->full_rows + (size_t)(slot * 3 + t) * e->width);
        expand_row(from + (3 + t) * e->area, e->small_width, e->half->first, e->half->next, e->half->weight, range.start, range.stop,
                   e->half_rows + (size_t)(slot * 3 + t) * e->half_width);
    }
    e->at[slot] = row;
    return slot;
}

/* The columns of one row that are processed: [start, stop) in pixels of half size, runs of active blocks. */
static int next_run(const uint8_t *row, int blocks, int *block, int width, int half_width, int *start, int *stop)
{
    int b = *block;
    while (b < blocks && !row[b])
        b++;
    if (b == blocks)
        return 0;
    int begin = b;
    while (b < blocks && row[b])
        b++;
    *block = b;
    *start = (int)((int64_t)begin * BLOCK * half_width / width);
    *stop = b == blocks ? half_width : (int)((int64_t)b * BLOCK * half_width / width);
    return 1;
}

/* Full-size alpha (height, width) of a small matte. See matting/refine.py.
 *
 * ``small``: alpha 0..1, 0 or 1 where ``certain`` is set; both (small_height, small_width). ``guide``: Y, U, V at that
 * size. ``width`` and ``height`` are even.
 */
EXPORT int alphareel_refine(const float *small, const uint8_t *certain, const uint8_t *guide, int small_width,
                            int small_height, const uint8_t *y, int y_stride, const uint8_t *u, int u_stride,
                            const uint8_t *v, int v_stride, int width, int height, float eps, uint8_t *alpha)
{
    int w = small_width, h = small_height, half_width = width / 2, half_height = height / 2, result = -1;
    int blocks = (w + BLOCK - 1) / BLOCK;
    size_t area = (size_t)w * h;
    Positions full = {0}, half = {0};
    uint8_t *masks = malloc(2 * area + w + 2 + (size_t)blocks * h);
    float *planes = malloc((3 + TERMS) * area * sizeof(float));
    /* four expanded rows of 3 terms at full and 3 at half width, three rows of chroma terms, their mean, one doubled row */
    float *rows = malloc(((size_t)4 * 3 * width + ((size_t)4 * 3 + 4) * half_width + 2 + width) * sizeof(float));
    Range *ranges = malloc(h * sizeof(Range));
    void *full_memory = positions_memory(width, &full), *half_memory = positions_memory(half_width, &half);
    if (!masks || !planes || !rows || !ranges || !full_memory || !half_memory)
        goto end;
    uint8_t *soft = masks, *steps = masks + area, *active = masks + 2 * area + w + 2;
    float *scaled = planes, *terms = planes + 3 * area;
    soft_mask(small, certain, w, h, steps, soft);
    active_blocks(soft, w, h, blocks, active);
    scale_row(guide, (int)(3 * area), scaled);
    needed_ranges(active, blocks, w, h, half_width, ranges);
    plain_terms(small, area, terms);
    Matte matte = {small, scaled, soft, w, h};
    if (fit(&matte, active, blocks, eps, terms))
        goto end;
    positions(w, width, full.first, full.next, full.weight);
    positions(w, half_width, half.first, half.next, half.weight);
    Expanded ring = {terms, area, &full, &half, ranges, w, width, half_width, rows, rows + (size_t)12 * width, {-1, -1, -1, -1}};
    float *chroma = rows + 12 * (size_t)(width + half_width), *mixed = chroma + 3 * (size_t)half_width;
    float *doubled = mixed + half_width + 2;
    int chroma_at[3] = {-1, -1, -1};
    for (int row = 0; row < height; row++) {
        float weight;
        int index = position(row, h, height, &weight);
        const uint8_t *runs = active + (size_t)index * blocks;
        uint8_t *out = alpha + (size_t)row * width;
        for (int b = 0; b < blocks; b++) { /* blocks without a soft pixel are uniform */
            int from = (int)((int64_t)b * BLOCK * half_width / w) * 2;
            int to = b == blocks - 1 ? width : (int)((int64_t)(b + 1) * BLOCK * half_width / w) * 2;
            if (!runs[b])
                memset(out + from, small[(size_t)index * w + b * BLOCK] > 0.5f ? 255 : 0, to - from);
        }
        int any = 0;
        for (int b = 0; b < blocks; b++)
            any |= runs[b];
        if (!any)
            continue;
        /* chroma terms of this half-size row and of the one on the other side */
        int near = row / 2, far = clamped(row % 2 ? near + 1 : near - 1, half_height);
        int wanted[2] = {near, far};
        for (int n = 0; n < 2; n++) {
            int at = wanted[n];
            float part;
            if (chroma_at[at % 3] == at)
                continue;
            int top = position(at, h, half_height, &part), bottom = clamped(top + 1, h);
            int upper = expanded_row(&ring, top), lower = expanded_row(&ring, bottom);
            chroma_row(ring.half_rows + (size_t)upper * 3 * half_width, ring.half_rows + (size_t)lower * 3 * half_width,
                       half_width, part, u + (size_t)at * u_stride,
                       v + (size_t)at * v_stride, ranges[top].start, ranges[top].stop,
                       chroma + (size_t)(at % 3) * half_width);
            chroma_at[at % 3] = at;
        }
        int upper = expanded_row(&ring, index), lower = expanded_row(&ring, clamped(index + 1, h));
        int block = 0, start, stop;
        while (next_run(runs, blocks, &block, w, half_width, &start, &stop))
            alpha_row(chroma + (size_t)(near % 3) * half_width, chroma + (size_t)(far % 3) * half_width, mixed, doubled,
                      half_width, ring.full_rows + (size_t)upper * 3 * width, ring.full_rows + (size_t)lower * 3 * width, width,
                      weight, y + (size_t)row * y_stride,
                      start, stop, out);
    }
    result = 0;
end:
    free(masks);
    free(planes);
    free(rows);
    free(ranges);
    free(full_memory);
    free(half_memory);
    return result;
}

/* -------------------------------------------------------------------------------------- edge color decontamination */

/* Alpha at half size, each pixel the rounded mean of 2x2. Returns whether a pixel of ``alpha`` is in low..high. */
CLONES
EXPORT int alphareel_halve(const uint8_t *restrict alpha, int stride, int width, int height, int low, int high,
                           uint8_t *restrict half)
{
    int found = 0;
    uint8_t least = (uint8_t)low, span = (uint8_t)(high - low);
    for (int y = 0; y < height / 2; y++) {
        const uint8_t *a = alpha + (size_t)(2 * y) * stride, *b = a + stride;
        uint8_t *out = half + (size_t)y * (width / 2);
        int any = 0;
        for (int x = 0; x < width; x++)
            any |= ((uint8_t)(a[x] - least) <= span) | ((uint8_t)(b[x] - least) <= span);
        for (int x = 0; x < width / 2; x++)
            out[x] = (uint8_t)((a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1] + 2) >> 2);
        found |= any;
    }
    return found;
}

/* Three planes and the mask itself, side by side: Y, U, V and 1 for each pixel that is known, else zeros. */
WIDE_CLONES
static void known_row(const uint8_t *restrict y, const uint8_t *restrict u, const uint8_t *restrict v,
                      const uint8_t *restrict known, int width, uint8_t *restrict out)
{
    for (int x = 0; x < width; x++) {
        uint8_t all = (uint8_t)(0 - known[x]);
        out[4 * x] = y[x] & all;
        out[4 * x + 1] = u[x] & all;
        out[4 * x + 2] = v[x] & all;
        out[4 * x + 3] = known[x];
    }
}

WIDE_CLONES
static void add_row(const uint8_t *restrict row, int count, int32_t *restrict sums)
{
    for (int n = 0; n < count; n++)
        sums[n] += row[n];
}

/* The row that enters a window and the one that leaves it. */
WIDE_CLONES
static void move_rows(const uint8_t *restrict enters, const uint8_t *restrict leaves, int count, int32_t *restrict sums)
{
    for (int n = 0; n < count; n++)
        sums[n] += enters[n] - leaves[n];
}

/* Sums of all pixels before each one, of a row that goes on ``radius`` pixels on both sides with its last ones. */
static void prefix_row(const int32_t *restrict sums, int width, int radius, int32_t *restrict prefix)
{
    int32_t sum[4] = {0, 0, 0, 0}, pixel[4];
    for (int x = -radius; x <= width + radius; x++, prefix += 4) {
        memcpy(prefix, sum, sizeof sum);
        memcpy(pixel, sums + 4 * (size_t)clamped(x, width), sizeof pixel);
        for (int k = 0; k < 4; k++)
            sum[k] += pixel[k];
    }
}

WIDE_CLONES
static void window_row(const int32_t *restrict prefix, int side, float share, int count, float *restrict total)
{
    for (int n = 0; n < count; n++)
        total[n] += share * (float)(prefix[n + 4 * side] - prefix[n]);
}

WIDE_CLONES
static void mean_row(const float *restrict total, const uint8_t *restrict plane, int k, float own_weight, int width,
                     float *restrict out)
{
    for (int x = 0; x < width; x++)
        out[x] = (total[4 * x + k] + own_weight * plane[x]) / (total[4 * x + 3] + own_weight);
}

/* Weighted mean of the pixels that are known, over square windows, for three planes. See matting/edges.py.
 *
 * ``planes``: Y, U, V (3, height, width). ``known``: 0 or 1. ``spread``: float (3, height, width).
 */
EXPORT int alphareel_spread(const uint8_t *planes, const uint8_t *known, int width, int height, const int *sides,
                            const float *weights, int windows, float own_weight, float *spread)
{
    size_t area = (size_t)width * height, row_size = (size_t)4 * width;
    int largest = 1, result = -1;
    for (int n = 0; n < windows; n++)
        largest = sides[n] > largest ? sides[n] : largest;
    uint8_t *rows = malloc(area * 4);
    int32_t *columns = calloc(windows * row_size, sizeof(int32_t));
    int32_t *prefix = malloc((row_size + 4 * (size_t)(largest + 1)) * sizeof(int32_t));
    float *total = malloc(row_size * sizeof(float));
    if (!rows || !columns || !prefix || !total)
        goto end;
    for (int y = 0; y < height; y++) {
        size_t at = (size_t)y * width;
        known_row(planes + at, planes + area + at, planes + 2 * area + at, known + at, width, rows + 4 * at);
    }
    for (int y = 0; y < height; y++) {
        memset(total, 0, row_size * sizeof(float));
        for (int n = 0; n < windows; n++) {
            int radius = sides[n] / 2;
            int32_t *sums = columns + n * row_size;
            if (y)
                move_rows(rows + clamped(y + radius, height) * row_size, rows + clamped(y - radius - 1, height) * row_size,
                          (int)row_size, sums);
            else /* the first row adds the whole window */
                for (int dy = -radius; dy <= radius; dy++)
                    add_row(rows + clamped(dy, height) * row_size, (int)row_size, sums);
            prefix_row(sums, width, radius, prefix);
            window_row(prefix, sides[n], weights[n] / ((float)sides[n] * (float)sides[n]), (int)row_size, total);
        }
        for (int k = 0; k < 3; k++)
            mean_row(total, planes + k * area + (size_t)y * width, k, own_weight, width, spread + k * area + (size_t)y * width);
    }
    result = 0;
end:
    free(rows);
    free(columns);
    free(prefix);
    free(total);
    return result;
}

CLONES
static void unmix_row(const uint8_t *restrict plane, const uint8_t *restrict alpha, int width, int low, int high,
                      const float *restrict top, const float *restrict bottom, float weight, uint8_t *restrict out)
{
    uint8_t least = (uint8_t)low, span = (uint8_t)(high - low);
    for (int start = 0; start < width; start += CHUNK) {
        int stop = start + CHUNK < width ? start + CHUNK : width, any = 0;
        for (int x = start; x < stop; x++)
            any |= (uint8_t)(alpha[x] - least) <= span;
        if (!any) {
            memcpy(out + start, plane + start, stop - start);
            continue;
        }
        for (int x = start; x < stop; x++) {
            float front = top[x] + weight * (bottom[x] - top[x]);
            float back = top[width + x] + weight * (bottom[width + x] - top[width + x]);
            float share = alpha[x] * (1.0f / 255.0f), level = plane[x];
            float value = front + share * (level - share * front - (1.0f - share) * back);
            value = larger(smaller(value, larger(level, front)), smaller(level, front));
            uint8_t clean = (uint8_t)(value + 0.5f);
            out[x] = (uint8_t)(alpha[x] - least) <= span ? clean : plane[x];
        }
    }
}

/* A copy of the plane with the foreground's levels where alpha is in low..high. See matting/edges.py.
 *
 * ``foreground``, ``background``: float (sides_height, sides_width), interpolated to the plane. ``out`` is contiguous.
 */
EXPORT int alphareel_unmix(const uint8_t *plane, int stride, const uint8_t *alpha, int alpha_stride, int width,
                           int height, const float *foreground, const float *background, int sides_width,
                           int sides_height, int low, int high, uint8_t *out)
{
    Positions at = {0};
    void *memory = positions_memory(width, &at);
    float *rows = malloc((size_t)4 * width * sizeof(float));
    int result = -1, expanded[2] = {-1, -1};
    if (!memory || !rows)
        goto end;
    positions(sides_width, width, at.first, at.next, at.weight);
    for (int row = 0; row < height; row++) {
        float weight;
        int top = position(row, sides_height, height, &weight), bottom = clamped(top + 1, sides_height);
        for (int k = 0; k < 2; k++) {
            int source = k ? bottom : top;
            float *to = rows + (size_t)(source % 2) * 2 * width;
            if (expanded[source % 2] == source)
                continue;
            expand_row(foreground + (size_t)source * sides_width, sides_width, at.first, at.next, at.weight, 0, width, to);
            expand_row(background + (size_t)source * sides_width, sides_width, at.first, at.next, at.weight, 0, width, to + width);
            expanded[source % 2] = source;
        }
        unmix_row(plane + (size_t)row * stride, alpha + (size_t)row * alpha_stride, width, low, high,
                  rows + (size_t)(top % 2) * 2 * width, rows + (size_t)(bottom % 2) * 2 * width, weight,
                  out + (size_t)row * width);
    }
    result = 0;
end:
    free(memory);
    free(rows);
    return result;
}

/* ------------------------------------------------------------------------------------------- temporal smoothing */

/* Where each pixel was in the previous frame: x, y (height, width, 2), from a flow of another size. */
CLONES
static void source_row(const float *restrict top, const float *restrict bottom, float weight, int row,
                       const int32_t *restrict first, const int32_t *restrict next, const float *restrict share,
                       int width, float scale_x, float scale_y, float *restrict out)
{
    for (int x = 0; x < width; x++) {
        int a = 2 * first[x], b = 2 * next[x];
        float left_x = top[a] + weight * (bottom[a] - top[a]), right_x = top[b] + weight * (bottom[b] - top[b]);
        float left_y = top[a + 1] + weight * (bottom[a + 1] - top[a + 1]);
        float right_y = top[b + 1] + weight * (bottom[b + 1] - top[b + 1]);
        out[2 * x] = (float)x + scale_x * (left_x + share[x] * (right_x - left_x));
        out[2 * x + 1] = (float)row + scale_y * (left_y + share[x] * (right_y - left_y));
    }
}

CLONES
static void same_size_row(const float *restrict flow, int row, int width, float *restrict out)
{
    for (int x = 0; x < width; x++) {
        out[2 * x] = (float)x + flow[2 * x];
        out[2 * x + 1] = (float)row + flow[2 * x + 1];
    }
}

/* ``flow``: x, y in its own pixels, float (flow_height, flow_width, 2). See matting/temporal_smoothing.py. */
EXPORT int alphareel_source(const float *flow, int flow_width, int flow_height, int width, int height, float *source)
{
    if (flow_width == width && flow_height == height) {
        for (int y = 0; y < height; y++)
            same_size_row(flow + (size_t)y * width * 2, y, width, source + (size_t)y * width * 2);
        return 0;
    }
    Positions at = {0};
    void *memory = positions_memory(width, &at);
    if (!memory)
        return -1;
    positions(flow_width, width, at.first, at.next, at.weight);
    for (int y = 0; y < height; y++) {
        float weight;
        int top = position(y, flow_height, height, &weight), bottom = clamped(top + 1, flow_height);
        source_row(flow + (size_t)top * flow_width * 2, flow + (size_t)bottom * flow_width * 2, weight, y, at.first,
                   at.next, at.weight, width, (float)width / flow_width, (float)height / flow_height,
                   source + (size_t)y * width * 2);
    }
    free(memory);
    return 0;
}

/* An index mirrored into the plane without repeating its border, as OpenCV's BORDER_REFLECT_101. */
static int mirrored(int index, int count)
{
    if (count == 1)
        return 0;
    while (index < 0 || index >= count)
        index = index < 0 ? -index : 2 * (count - 1) - index;
    return index;
}

CLONES
static void difference_row(const uint8_t *restrict a, const uint8_t *restrict b, int width, int add,
                           int32_t *restrict sums)
{
    for (int x = 0; x < width; x++) {
        int difference = a[x] > b[x] ? a[x] - b[x] : b[x] - a[x];
        sums[x] += add * difference;
    }
}

CLONES
static void weight_row(const int32_t *restrict columns, const float *restrict weights, int width, float *restrict out)
{
    for (int x = 0; x < width; x++) /* columns has two pixels of margin on each side */
        out[x] = weights[columns[x] + columns[x + 1] + columns[x + 2] + columns[x + 3] + columns[x + 4]];
}

/* A weight for each pixel, by how well two pictures match in the 5x5 pixels around it.
 *
 * ``picture``, ``other``: Y, U, V (3, height, width). ``weights``: by the sum of differences over 3 planes and 25
 * pixels, 19,126 values.
 */
EXPORT int alphareel_match(const uint8_t *picture, const uint8_t *other, const float *weights, int width, int height,
                           float *out)
{
    size_t area = (size_t)width * height;
    int32_t *columns = calloc((size_t)width + 4, sizeof(int32_t));
    if (!columns)
        return -1;
    int32_t *sums = columns + 2;
    for (int y = 0; y < height; y++) {
        for (int dy = y ? 2 : -2; dy <= 2; dy++)
            for (int k = 0; k < 3; k++) {
                size_t at = k * area + (size_t)mirrored(y + dy, height) * width;
                difference_row(picture + at, other + at, width, 1, sums);
            }
        if (y)
            for (int k = 0; k < 3; k++) {
                size_t at = k * area + (size_t)mirrored(y - 3, height) * width;
                difference_row(picture + at, other + at, width, -1, sums);
            }
        for (int n = 1; n <= 2; n++) {
            sums[-n] = sums[mirrored(-n, width)];
            sums[width - 1 + n] = sums[mirrored(width - 1 + n, width)];
        }
        weight_row(columns, weights, width, out + (size_t)y * width);
    }
    free(columns);
    return 0;
}

/* A row of flow and weights between two rows, each plane apart. */
CLONES
static void link_row(const float *restrict top, const float *restrict bottom, const float *restrict top_weight,
                     const float *restrict bottom_weight, float share, int width, float *restrict x,
                     float *restrict y, float *restrict weight)
{
    for (int n = 0; n < width; n++) {
        x[n] = top[2 * n] + share * (bottom[2 * n] - top[2 * n]);
        y[n] = top[2 * n + 1] + share * (bottom[2 * n + 1] - top[2 * n + 1]);
        weight[n] = top_weight[n] + share * (bottom_weight[n] - top_weight[n]);
    }
}

/* Where the pixels of a row are in the neighbor: offset of the first of four pixels, shares of the others. */
CLONES
static void target_row(const float *restrict x, const float *restrict y, float scale_x, float scale_y, int row,
                       int width, int height, int32_t *restrict offset, float *restrict across, float *restrict down)
{
    for (int n = 0; n < width; n++) {
        float at_x = smaller(larger((float)n + scale_x * x[n], 0.0f), (float)(width - 1));
        float at_y = smaller(larger((float)row + scale_y * y[n], 0.0f), (float)(height - 1));
        int left = (int)at_x, top = (int)at_y;
        left = left > width - 2 ? width - 2 : left;
        top = top > height - 2 ? height - 2 : top;
        across[n] = at_x - (float)left;
        down[n] = at_y - (float)top;
        offset[n] = 3 * (top * width + left);
    }
}

#if defined(__GNUC__)
typedef float Quad __attribute__((vector_size(16)));

INLINE Quad quad(const float *from)
{
    Quad value;
    memcpy(&value, from, sizeof value);
    return value;
}
#endif

/* own + weight * neighbor, for alpha, log-odds and count of each pixel of a row. ``safe``: floats of the neighbor. */
static void gather_row(const float *restrict alpha, const float *restrict logit, float count,
                       const float *restrict weight, const int32_t *restrict offset, const float *restrict across,
                       const float *restrict down, const float *restrict neighbor, int64_t safe, int width,
                       float *restrict out)
{
    int under = 3 * width;
    for (int x = 0; x < width; x++) {
        const float *p = neighbor + offset[x];
        float a = across[x], d = down[x], w = weight[x], own[3] = {count * alpha[x], count * logit[x], count};
#if defined(__GNUC__)
        if (offset[x] + under + 3 + 4 <= safe) { /* the last of four pixels may be followed by one more float */
            Quad upper = quad(p), lower = quad(p + under);
            upper += a * (quad(p + 3) - upper);
            lower += a * (quad(p + under + 3) - lower);
            upper += d * (lower - upper);
            for (int k = 0; k < 3; k++)
                out[3 * x + k] = own[k] + w * upper[k];
            continue;
        }
#endif
        for (int k = 0; k < 3; k++) {
            float upper = p[k] + a * (p[k + 3] - p[k]), lower = p[under + k] + a * (p[under + k + 3] - p[under + k]);
            out[3 * x + k] = own[k] + w * (upper + d * (lower - upper));
        }
    }
}

/* Alpha, log-odds and count of each pixel, and what a neighbor adds to them along a flow. See
 * matting/offline_smoothing.py.
 *
 * ``alpha``, ``logit``: (height, width), each counting ``count`` times. ``flow`` (flow_height, flow_width, 2), in its own
 * pixels, and ``link`` (flow_height, flow_width) of the neighbor, which weighs at least ``least``. ``neighbor``, ``out``:
 * (height, width, 3). Both sides are at least 2.
 */
EXPORT int alphareel_accumulate(const float *alpha, const float *logit, float count, const float *flow,
                                const float *link, float least, int flow_width, int flow_height,
                                const float *neighbor, int width, int height, float *out)
{
    Positions at = {0};
    void *memory = positions_memory(width, &at);
    float *rows = malloc(((size_t)3 * flow_width + (size_t)6 * width) * sizeof(float));
    int result = -1;
    if (!memory || !rows)
        goto end;
    float *flow_x = rows, *flow_y = rows + flow_width, *flow_weight = rows + 2 * (size_t)flow_width;
    float *x = rows + 3 * (size_t)flow_width, *y = x + width, *weight = y + width, *across = weight + width;
    float *down = across + width;
    int32_t *offset = (int32_t *)(down + width);
    positions(flow_width, width, at.first, at.next, at.weight);
    for (int row = 0; row < height; row++) {
        float share;
        int top = position(row, flow_height, height, &share), bottom = clamped(top + 1, flow_height);
        link_row(flow + (size_t)top * flow_width * 2, flow + (size_t)bottom * flow_width * 2,
                 link + (size_t)top * flow_width, link + (size_t)bottom * flow_width, share, flow_width, flow_x, flow_y,
                 flow_weight);
        expand_row(flow_x, flow_width, at.first, at.next, at.weight, 0, width, x);
        expand_row(flow_y, flow_width, at.first, at.next, at.weight, 0, width, y);
        expand_row(flow_weight, flow_width, at.first, at.next, at.weight, 0, width, weight);
        if (least > 0)
            for (int n = 0; n < width; n++)
                weight[n] = larger(weight[n], least);
        target_row(x, y, (float)width / flow_width, (float)height / flow_height, row, width, height, offset, across, down);
        size_t first = (size_t)row * width;
        gather_row(alpha + first, logit + first, count, weight, offset, across, down, neighbor,
                   (int64_t)3 * width * height, width, out + 3 * first);
    }
    result = 0;
end:
    free(memory);
    free(rows);
    return result;
}

/* e to the power of x, within 3e-7 of it, for -80 < x < 80. */
INLINE float exponential(float x)
{
    float t = x * 1.44269504f;
    int32_t whole = (int32_t)(t + (t < 0 ? -0.5f : 0.5f)), bits = (whole + 127) << 23;
    float f = (t - (float)whole) * 0.69314718f, scale;
    memcpy(&scale, &bits, sizeof scale);
    float power = 1.0f + f * (1.0f + f * (0.5f + f * (1.0f / 6 + f * (1.0f / 24 + f * (1.0f / 120 + f * (1.0f / 720))))));
    return power * scale;
}

/* The matte of what the past and the future add up to, which both count the frame itself: the mean of alpha, mixed with
 * the mean of log-odds by ``share``. ``certain``: alpha of the largest log-odds, which becomes 0. */
WIDE_CLONES
EXPORT int alphareel_settle(const float *restrict past, const float *restrict future, const float *restrict alpha,
                            const float *restrict logit, float count, float share, float certain, int area,
                            float *restrict out)
{
    for (int x = 0; x < area; x++) {
        float total = 1.0f / (past[3 * x + 2] + future[3 * x + 2] - count);
        float mean = (past[3 * x] + future[3 * x] - count * alpha[x]) * total;
        float odds = (past[3 * x + 1] + future[3 * x + 1] - count * logit[x]) * total;
        float voted = (1.0f / (1.0f + exponential(-odds)) - certain) / (1.0f - 2.0f * certain);
        out[x] = smaller(larger((1.0f - share) * mean + share * voted, 0.0f), 1.0f);
    }
    return 0;
}

/* --------------------------------------------------------------------------------------------------- hidden areas */

/* Sets the cells of a row that have a pixel above zero. */
CLONES
static void cell_row(const uint8_t *restrict row, int count, uint8_t *restrict cells)
{
    for (int c = 0; c < count; c++) {
        uint64_t pixels;
        memcpy(&pixels, row + 8 * c, sizeof pixels);
        cells[c] |= pixels ? 255 : 0;
    }
}

/* 255 for each cell of 8x8 pixels that has a pixel above zero itself or in one of its eight neighbors, else 0. See
 * media/encoder_input.py. ``width`` and ``height`` are multiples of 8.
 */
EXPORT int alphareel_cells(const uint8_t *alpha, int stride, int width, int height, uint8_t *out)
{
    int across = width / 8, down = height / 8;
    uint8_t *seen = calloc((size_t)across * (down + 3) + 2, 1); /* a row above and below, and one to dilate in */
    if (!seen)
        return -1;
    for (int y = 0; y < height; y++)
        cell_row(alpha + (size_t)y * stride, across, seen + (size_t)(y / 8 + 1) * across);
    for (int y = 0; y < down; y++) {
        const uint8_t *above = seen + (size_t)y * across;
        dilate_row(above, above + across, above + 2 * across, across, seen + (size_t)across * (down + 2),
                   out + (size_t)y * across);
    }
    free(seen);
    return 0;
}

/* A copy of the plane with ``value`` where its cell is zero. See media/encoder_input.py. Cells are those of OpenCV's
 * nearest neighbor: pixel x lies in cell x * cells_width / width.
 */
EXPORT int alphareel_fill(const uint8_t *plane, int stride, int width, int height, const uint8_t *cells,
                          int cells_width, int cells_height, int value, uint8_t *out)
{
    for (int y = 0; y < height; y++) {
        const uint8_t *row = cells + (size_t)((int64_t)y * cells_height / height) * cells_width;
        uint8_t *to = out + (size_t)y * width;
        int start = 0;
        for (int c = 0; c < cells_width; c++) {
            if (c + 1 < cells_width && !row[c] == !row[c + 1])
                continue;
            int stop = (int)(((int64_t)(c + 1) * width + cells_width - 1) / cells_width);
            if (row[c])
                memcpy(to + start, plane + (size_t)y * stride + start, stop - start);
            else
                memset(to + start, value, stop - start);
            start = stop;
        }
    }
    return 0;
}
