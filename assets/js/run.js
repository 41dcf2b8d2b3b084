// One run, live: the server sends the parts that have changed; a hidden tab asks for nothing.
(() => {
  const { actions, ask, call, patch } = face;
  let source = null, following = null, quietly = null;

  function open() {
    close();
    source = new EventSource(`/face/runs/${encodeURIComponent(following.run)}/live`);
    source.onmessage = (event) => {
      clearTimeout(quietly);
      const told = JSON.parse(event.data);
      patch(told.parts);
      if (told.state) following.root.querySelector(".face").dataset.state = told.state;
      if (told.title) document.title = told.title;
      if (told.over) { following.over = true; close(); }
      following.root.dataset.usable = "true";
    };
    source.onerror = () => {
      // The browser tries again by itself; a short gap is not worth a word.
      clearTimeout(quietly);
      quietly = setTimeout(() => patch({ "run-gap": "The server does not answer; trying again. Training goes on without it." }), 2500);
      if (source?.readyState === EventSource.CLOSED) setTimeout(() => following && !following.over && !document.hidden && open(), 2000);
    };
    source.onopen = () => { clearTimeout(quietly); patch({ "run-gap": "" }); };
  }
  function close() { source?.close(); source = null; }

  face.live = (root, server, run) => { following = { root, server, run, over: false }; if (!document.hidden) open(); };
  face.quiet = () => { following = null; close(); };
  face.visible((seen) => { if (!following || following.over) return; if (seen) open(); else close(); });
  addEventListener("pagehide", close);

  actions["stop-keep"] = async () => { await call(following.server, "stop", { run: following.run, keep: true }); };
  actions["stop-discard"] = async () => {
    const sure = await ask("Stop and discard?", "What this run has learned so far is thrown away. Its numbers and log stay.", "Stop and discard");
    if (sure) await call(following.server, "stop", { run: following.run, keep: false });
  };
})();
