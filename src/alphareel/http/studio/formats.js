// The output formats, by what they are for.
export const TRANSPARENT_FORMATS = [
  ["webm", "WebM (VP9 with alpha), for the web"],
  ["mov", "MOV (ProRes 4444), for editing"],
  ["png_sequence", "PNG frames in a ZIP"],
  ["webp", "Animated WebP"],
  ["gif", "GIF"],
  ["apng", "Animated PNG"],
  ["ffv1", "MKV (FFV1), lossless"],
  ["stacked_mp4", "MP4, color above alpha"],
  ["matte", "MP4, alpha as gray"],
  ["hevc_mov", "MOV (HEVC with alpha), for Apple devices"],
];
export const OPAQUE_FORMATS = [
  ["mp4", "MP4 (H.264)"],
  ["prores_hq", "MOV (ProRes 422 HQ)"],
  ["webm", "WebM (VP9)"],
  ["gif", "GIF"],
];

/** Formats that need a background. */
export const OPAQUE = new Set(["mp4", "prores_hq"]);

/** Every format once. */
export const FORMATS = [...TRANSPARENT_FORMATS, ...OPAQUE_FORMATS.filter(([name]) => OPAQUE.has(name))];
