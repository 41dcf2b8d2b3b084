// Rules of axe-core that were broken once, for all visible elements of a page; returns the problems.
() => {
  const problems = [];
  const all = (selector) =>
    [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility());
  const show = (node) => node.outerHTML.slice(0, 120);
  const words = (text) => (text ?? "").toLowerCase().match(/[\p{L}\p{N}]+/gu)?.join(" ") ?? "";
  const name = (node) => words(node.getAttribute("aria-label"));
  const text = (node) => words(node.innerText);

  for (const tag of ["h1", "main"]) {
    if (all(tag).length !== 1) problems.push(`${all(tag).length} ${tag}`);
  }
  for (const node of all("button, a[href], summary, [role=tab]")) {
    if (!name(node) && !words(node.textContent)) problems.push(`no name: ${show(node)}`);
    if (name(node) && !name(node).includes(text(node))) {
      problems.push(`the name lacks the text: ${show(node)}`);
    }
  }
  for (const node of all("input:not([type=hidden]), select, textarea")) {
    const labels = [...node.labels].map((label) => words(label.textContent));
    if (!name(node) && !labels.some(Boolean)) problems.push(`no label: ${show(node)}`);
  }
  for (const node of all("th")) if (!words(node.textContent)) problems.push(`empty: ${show(node)}`);

  const once = (values) => {
    const seen = new Set();
    for (const value of values) {
      if (seen.has(value)) problems.push(`twice: ${value}`);
      seen.add(value);
    }
  };
  const parts = "[role=region], [role=log], [role=group], aside, nav, section[aria-label]";
  once(all(parts).map((node) => `${node.getAttribute("role") ?? node.tagName} ${name(node)}`));
  once([...document.querySelectorAll('[id]:not([id=""])')].map((node) => `#${node.id}`));

  for (const link of all("p a:not(.btn)")) {
    const isUnderlined = getComputedStyle(link).textDecorationLine.includes("underline");
    if (!isUnderlined) problems.push(`a link by its color alone: ${show(link)}`);
  }
  return problems;
}
