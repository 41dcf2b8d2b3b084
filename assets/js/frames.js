// Keep a page at rest from drawing 60 times a second.
// Gradio 6.31 removes its loading indicator while the indicator's clock runs: from then on the clock
// asks for a frame in every frame, which costs a tenth of a core that a run on the CPU needs.
// A classic script, because it has to come before Gradio's modules.
(() => {
  const request = window.requestAnimationFrame.bind(window);
  const isClock = (/** @type {FrameRequestCallback} */ callback) => callback.toString().includes("performance.now()-");
  window.requestAnimationFrame = (callback) => (isClock(callback) ? 0 : request(callback));
})();
