// Plays <video class="alphareel"> with its transparency in every browser. The <source> is a WebM with alpha, which Safari
// shows opaque: there, data-hevc (HEVC with alpha) is played instead, or data-stacked, an H.264 video with the picture
// above and its alpha below, which a shader puts together on a canvas.
(() => {
  const vertex = `attribute vec2 p; varying vec2 t;
void main() { t = vec2(p.x, 1.0 - p.y); gl_Position = vec4(p * 2.0 - 1.0, 0, 1); }`;
  const fragment = `precision mediump float; varying vec2 t; uniform sampler2D s; uniform float h;
void main() {
  float y = clamp(t.y * 0.5, h, 0.5 - h);
  float a = texture2D(s, vec2(t.x, y + 0.5)).g;
  gl_FragColor = vec4(texture2D(s, vec2(t.x, y)).rgb * a, a);
}`;

  const stack = (video) => {
    const canvas = document.createElement("canvas");
    const gl = canvas.getContext("webgl");
    if (!gl) return;
    const program = gl.createProgram();
    [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]].forEach(([type, source]) => {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    });
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.bindAttribLocation(program, 0, "p");
    gl.vertexAttribPointer(gl.getAttribLocation(program, "p"), 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T].forEach((n) => gl.texParameteri(gl.TEXTURE_2D, n, gl.CLAMP_TO_EDGE));
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);

    const draw = () => {
      if (video.readyState < 2) return;
      const width = video.videoWidth, height = video.videoHeight / 2;
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
        gl.viewport(0, 0, width, height);
        gl.uniform1f(gl.getUniformLocation(program, "h"), 0.25 / height);
      }
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    };
    const next = () => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback(play) : requestAnimationFrame(play));
    const play = () => {
      draw();
      next();
    };
    // A busy browser may skip the callback of the only frame that a paused video shows, and draw the one before at first.
    const settle = () => [0, 99, 999].forEach((ms) => setTimeout(draw, ms));
    ["loadeddata", "seeked"].forEach((event) => video.addEventListener(event, settle));
    canvas.className = video.className;
    canvas.style.cssText = `width:${video.getAttribute("width")}px;max-width:100%;${video.style.cssText}`;
    video.crossOrigin = "anonymous";
    video.src = video.dataset.stacked;
    video.after(canvas);
    video.style.cssText = "position:absolute;width:1px;height:1px;opacity:0;pointer-events:none";
    if (video.autoplay) video.play().catch(() => {});
    next();
  };

  const start = () =>
    document.querySelectorAll("video.alphareel").forEach((video) => {
      const { hevc, stacked } = video.dataset;
      const isSafari = /^Apple/.test(navigator.vendor);
      if (!isSafari && video.canPlayType('video/webm; codecs="vp9"')) return;
      if (isSafari && hevc && video.canPlayType('video/mp4; codecs="hvc1"')) video.src = hevc;
      else if (stacked) stack(video);
    });
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
