// Python source with highlighting, and the difference between a solution and its mutant.

const PYTHON = new RegExp([
  String.raw`(?<comment>#[^\n]*)`,
  String.raw`(?<string>[rbfuRBFU]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))`,
  String.raw`(?<number>\b(?:0[xXoObB][\da-fA-F_]+|\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d+)?j?)\b)`,
  String.raw`(?<keyword>\b(?:False|None|True|and|as|assert|async|await|break|case|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|match|nonlocal|not|or|pass|raise|return|try|while|with|yield)\b)`,
  String.raw`(?<name>(?<=\b(?:def|class)[ \t]+)\w+|@\w[\w.]*)`,
  // Whole words at once, so that no part of a name is taken for a keyword or a number.
  String.raw`\w+`,
].join("|"), "gy");

function highlighted(source) {
  const fragment = document.createDocumentFragment();
  let plain = "";
  let position = 0;
  while (position < source.length) {
    PYTHON.lastIndex = position;
    const match = PYTHON.exec(source);
    if (!match) {
      plain += source[position++];
      continue;
    }
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    if (kind) {
      fragment.append(plain, element("span", { class: kind }, match[0]));
      plain = "";
    } else {
      plain += match[0];
    }
    position += match[0].length;
  }
  fragment.append(plain);
  return fragment;
}

// A block of source that scrolls and can be reached by keyboard.
function codeBlock(label, source) {
  const lines = source.replace(/\n$/, "").split("\n").length;
  const numbers = Array.from({ length: lines }, (_, i) => i + 1).join("\n");
  return element("div", { class: "code", tabindex: "0", role: "group", "aria-label": label },
    element("span", { class: "numbers", "aria-hidden": "true" }, numbers),
    element("code", {}, highlighted(source)));
}

function textBlock(label, text) {
  return element("div", { class: "code wrapped", tabindex: "0", role: "group", "aria-label": label },
    element("code", {}, text === "" ? element("span", { class: "comment" }, "(empty)") : text));
}

// Length of the common beginning of two sequences.
function commonStart(a, b) {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}

function commonEnd(a, b, atMost) {
  let n = 0;
  while (n < atMost && a[a.length - 1 - n] === b[b.length - 1 - n]) n++;
  return n;
}

// A mutant differs from its original in one place, so what lies between the common beginning and
// the common end of their lines is the difference.
function difference(original, mutant, context = 1) {
  const before = original.replace(/\s+$/, "").split("\n");
  const after = mutant.replace(/\s+$/, "").split("\n");
  const start = commonStart(before, after);
  const end = commonEnd(before, after, Math.min(before.length, after.length) - start);
  const removed = before.slice(start, before.length - end);
  const added = after.slice(start, after.length - end);
  const block = element("div", { class: "difference", tabindex: "0", role: "group", "aria-label": "Difference from the solution" });
  block.append(element("span", { class: "place" }, `line ${start + 1}`));
  for (const line of before.slice(Math.max(0, start - context), start)) block.append(element("span", {}, `  ${line}`));
  const marked = removed.length === 1 && added.length === 1;
  const counterpart = (line, other) => (marked ? markedLine(line, other) : [line]);
  for (const line of removed) block.append(element("del", {}, "- ", ...counterpart(line, added[0])));
  for (const line of added) block.append(element("ins", {}, "+ ", ...counterpart(line, removed[0])));
  const rest = before.length - end;
  for (const line of before.slice(rest, rest + context)) block.append(element("span", {}, `  ${line}`));
  return block;
}

function markedLine(line, other) {
  const start = commonStart(line, other);
  const end = commonEnd(line, other, Math.min(line.length, other.length) - start);
  const changed = line.slice(start, line.length - end);
  return [line.slice(0, start), changed ? element("mark", {}, changed) : null, line.slice(line.length - end)];
}
