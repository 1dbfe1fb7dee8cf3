"use strict";
// Plays what this file holds. Asks the network for nothing; puts what was recorded into the page as text alone.
(async () => {
  const HITS = 200;
  const CARRIED = 200; // characters of a part that a word may begin in and end in the next
  const CLASSES = ["read", "write", "execute", "install", "reboot"];
  const $ = (id) => document.getElementById(id);

  const unpack = async (number) => {
    const packed = Uint8Array.from(atob($(`part-${number}`).textContent), (each) => each.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const index = JSON.parse($("index").textContent);
  // the player asks for its parts as if they lay on a server; anything else is the policy's to refuse
  const native = window.fetch.bind(window);
  window.fetch = async (url, options) => {
    const found = /^part:(index|\d+)$/.exec(url);
    if (!found) return native(url, options);
    return new Response(found[1] === "index" ? JSON.stringify(index) : await unpack(found[1]));
  };

  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    return `${hours ? `${hours}:` : ""}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  };

  const commands = JSON.parse($("commands").textContent);

  // between recorded and shown seconds: pauses are [recorded, shown] where a shortened one ends
  const turned = (from, to) => (seconds) => {
    const later = index.pauses.findIndex((pause) => pause[from] > seconds);
    const at = later < 0 ? index.pauses.length : later;
    const before = at ? index.pauses[at - 1] : [0, 0];
    const limit = index.pauses[at] ? index.pauses[at][to] : Infinity;
    return Math.min(before[to] + seconds - before[from], limit);
  };
  const toShown = turned(0, 1);
  const toRecorded = turned(1, 0);

  const player = AsciinemaPlayer.create(
    { url: "part:index", format: "segmented" },
    $("screen"),
    { fit: "both", controls: true, preload: true, cursorMode: "steady" },
  );

  const go = async (seconds) => {
    await player.pause();
    await player.seek(toShown(seconds));
    tell();
  };

  const entry = (list, seconds, parts, colour) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.at = seconds;
    button.append(...parts);
    if (colour) button.classList.add(colour);
    button.addEventListener("click", () => go(seconds));
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
    return button;
  };

  const made = (tag, text) => {
    const element = document.createElement(tag);
    element.textContent = text;
    return element;
  };

  const buttons = commands.map(({ t, text, verdict }) => {
    const word = verdict.split(/[ :]/, 1)[0];
    const refused = /\b(denied|refused)\b/.test(verdict);
    const colour = refused ? "refused" : CLASSES.includes(word) ? word : "";
    const parts = [made("small", `${clock(t)} ${verdict}`)];
    if (text) parts.unshift(made("code", text));
    return entry($("list"), t, parts, colour);
  });

  // what a person could read on the screen, one piece an event, and where each piece begins
  const readable = async (number, carried) => {
    let text = carried.text;
    const starts = [[0, carried.at]];
    for (const [at, code, data] of JSON.parse(await unpack(number)).events) {
      if (code !== "o") continue;
      starts.push([text.length, at]);
      text += data.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0AB]|[78DEM])|[\x00-\x08\x0b-\x1f]/g, "");
    }
    return { text, timeOf: (offset) => starts.findLast((start) => start[0] <= offset)[1] };
  };

  let searching = 0;
  const search = async () => {
    const turn = ++searching;
    const wanted = $("wanted").value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    $("hits").replaceChildren();
    if (!wanted) return;
    let carried = { text: "", at: 0 };
    for (const number of index.segments.keys()) {
      const { text, timeOf } = await readable(number, carried);
      if (turn !== searching) return;
      for (const hit of text.matchAll(new RegExp(wanted, "giu"))) {
        const [at, end] = [hit.index, hit.index + hit[0].length];
        if (end <= carried.text.length) continue; // told with the part before
        const around = made("code", text.slice(Math.max(0, text.lastIndexOf("\n", at) + 1, at - 60), at));
        around.append(made("mark", hit[0]), text.slice(end, end + 60).split("\n", 1)[0]);
        const seconds = toRecorded(timeOf(at));
        entry($("hits"), seconds, [around, made("small", clock(seconds))], "");
        if ($("hits").childElementCount >= HITS) return;
      }
      carried = { text: text.slice(-CARRIED), at: timeOf(text.length) };
    }
    if (!$("hits").childElementCount) $("hits").append(made("li", "not found in what was shown"));
  };
  $("wanted").addEventListener("input", search);

  const tell = () => {
    const seconds = toRecorded(player.getCurrentTime() || 0);
    $("at").textContent = seconds.toFixed(1);
    let now;
    for (const button of buttons) {
      button.classList.remove("now");
      if (Number(button.dataset.at) <= seconds + 0.05) now = button;
    }
    if (now) now.classList.add("now");
  };
  window.seekTo = (part) => player.seek(part * index.duration);
  setInterval(tell, 250);
  tell();
  document.body.dataset.ready = "yes";
})();
