"use strict";
// Plays what this file holds. Asks the network for nothing; puts what was recorded into the page as text alone.
(async () => {
  const IDLE = 5; // seconds: longer pauses are shortened while playing; the times in the lists are the recording's own
  const HITS = 200;
  const CLASSES = ["read", "write", "execute", "install", "reboot"];
  const $ = (id) => document.getElementById(id);

  const unpack = async (id) => {
    const packed = Uint8Array.from(atob($(id).textContent), (each) => each.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  // [recorded seconds, shown seconds, code, text] of every event of an asciicast, version 3
  const read = (text) => {
    const [head, ...lines] = text.trimEnd().split("\n").map((line) => JSON.parse(line));
    let at = 0;
    let shown = 0;
    const events = lines.map(([since, code, data]) => {
      at += since;
      shown += Math.min(since, IDLE);
      return [at, shown, code, data];
    });
    return { head, events };
  };

  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    return `${hours ? `${hours}:` : ""}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  };

  const { head, events } = read(await unpack("data"));
  const commands = JSON.parse($("commands").textContent);
  const marks = events.filter((event) => event[2] === "m").map((event) => [event[1], event[3]]);

  // between recorded and shown seconds: the last event at or before
  const turned = (from, to) => (seconds) => {
    let low = 0;
    let high = events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (events[middle][from] <= seconds) low = middle + 1;
      else high = middle;
    }
    const before = low ? events[low - 1] : [0, 0];
    const limit = events[low] ? events[low][to] : Infinity;
    return Math.min(before[to] + Math.max(0, seconds - before[from]), limit);
  };
  const toShown = turned(0, 1);
  const toRecorded = turned(1, 0);

  const player = AsciinemaPlayer.create(
    {
      data: "",
      parser: () => ({
        cols: head.term.cols,
        rows: head.term.rows,
        events: events
          .filter(([, , code]) => "oirm".includes(code))
          .map(([, shown, code, data]) => [shown * 1000, code, data]),
      }),
    },
    $("screen"),
    { fit: "both", controls: true, preload: true, markers: marks, cursorMode: "steady" },
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
  const plain = [];
  const starts = [];
  let length = 0;
  for (const [at, , code, data] of events) {
    if (code !== "o") continue;
    const piece = data.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0AB]|[78DEM])|[\x00-\x08\x0b-\x1f]/g, "");
    starts.push([length, at]);
    plain.push(piece);
    length += piece.length;
  }
  const text = plain.join("");
  const timeOf = (offset) => {
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle][0] <= offset) low = middle + 1;
      else high = middle;
    }
    return starts[low - 1][1];
  };

  const search = () => {
    const wanted = $("wanted").value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    $("hits").replaceChildren();
    if (!wanted) return;
    for (const hit of text.matchAll(new RegExp(wanted, "giu"))) {
      const [at, end] = [hit.index, hit.index + hit[0].length];
      const around = made("code", text.slice(Math.max(0, text.lastIndexOf("\n", at) + 1, at - 60), at));
      around.append(made("mark", hit[0]), text.slice(end, end + 60).split("\n", 1)[0]);
      entry($("hits"), timeOf(at), [around, made("small", clock(timeOf(at)))], "");
      if ($("hits").childElementCount >= HITS) break;
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
  setInterval(tell, 250);
  tell();
  document.body.dataset.ready = "yes";
})();
