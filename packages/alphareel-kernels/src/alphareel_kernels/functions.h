/* How functions are declared: visible outside of the library, or compiled into their callers. */

#ifndef ALPHAREEL_FUNCTIONS_H
#define ALPHAREEL_FUNCTIONS_H

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif
#define INLINE static inline __attribute__((always_inline))

#endif
