// What a page does beside what its HTML does alone: it stays up to date, filters while you type, and lets jobs be dragged.
// Without this file every page can be read and every form sent.
'use strict';

const main = document.querySelector('main');
const said = document.getElementById('said');
const light = document.getElementById('live');

/** Told to screen readers: only what somebody would want to be interrupted for. */
function say(text) {
  if (said) said.textContent = text;
}

// ---- One tree made like another, with what a person is in the middle of left alone.

function attributes(from, to) {
  for (const { name } of [...from.attributes]) {
    // Whether it is folded out, and what a script hides, is the person's.
    if (!to.hasAttribute(name) && !keeps(from, name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && !keeps(from, name)) from.setAttribute(name, value);
  }
}

function keeps(element, name) {
  return (name === 'open' && element.tagName === 'DETAILS') || (name === 'hidden' && element.tagName === 'TR')
    || (name === 'disabled' && element.dataset.waits !== undefined) || (name === 'data-place');
}

function children(from, to) {
  const known = new Map();
  for (const child of from.children) if (child.id) known.set(child.id, child);
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    let match = next.id ? known.get(next.id) : undefined;
    if (!match && at && at.nodeType === next.nodeType && at.nodeName === next.nodeName && !at.id && !next.id) match = at;
    if (!match) {
      from.insertBefore(document.importNode(next, true), at);
    } else {
      if (match === at) at = at.nextSibling;
      else from.insertBefore(match, at);
      morph(match, next);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  if (from.isEqualNode(to)) return;
  // A log that grows by the stream is not overwritten by an older state of it.
  if (from.dataset.run !== undefined && from.dataset.run === to.dataset.run) return;
  attributes(from, to);
  children(from, to);
}

/** Does `change`, and leaves focus and scroll where they were: an element that moves loses them. */
function steadily(change) {
  const held = document.activeElement;
  const { scrollX, scrollY } = window;
  change();
  if (held && held !== document.activeElement && held.isConnected) held.focus({ preventScroll: true });
  if (window.scrollX !== scrollX || window.scrollY !== scrollY) window.scrollTo(scrollX, scrollY);
}

// ---- Times: the server writes UTC; here they are told as people tell them.

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const steps = [[60, 'second'], [3600, 'minute', 60], [86400, 'hour', 3600], [86400 * 14, 'day', 86400]];
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });

function ago(then) {
  const seconds = (then - Date.now()) / 1000;
  for (const [below, unit, per = 1] of steps) {
    if (Math.abs(seconds) < below) return unit === 'second' && seconds <= 0 ? 'just now' : relative.format(Math.round(seconds / per), unit);
  }
  return day.format(then);
}

function times(root) {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const then = Date.parse(time.dateTime);
    if (Number.isNaN(then)) continue;
    const text = ago(then);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = full.format(then);
  }
}

// ---- The filter over rows that are there.

const filter = document.getElementById('filter');

function matches(row, words) {
  const text = row.textContent.toLowerCase();
  return words.every((word) => text.includes(word));
}

function sift() {
  if (!filter) return;
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = document.querySelectorAll('#machines tbody tr');
  let shown = 0;
  for (const row of rows) {
    const hide = !matches(row, words);
    if (row.hidden !== hide) row.hidden = hide;
    if (!hide) shown += 1;
  }
  const count = document.getElementById('count');
  const text = words.length ? `${shown} of ${rows.length}` : '';
  if (count && count.textContent !== text) count.textContent = text;
}

if (filter) {
  filter.addEventListener('input', () => {
    sift();
    const url = new URL(location.href);
    if (filter.value) url.searchParams.set('q', filter.value);
    else url.searchParams.delete('q');
    history.replaceState(null, '', url);
  });
  // The rows are here already: nothing need be asked for.
  filter.form.addEventListener('submit', (event) => event.preventDefault());
}

// ---- News of machines: rows as the server has written them.

function rowOf(html) {
  const template = document.createElement('template');
  template.innerHTML = html;
  return template.content.firstElementChild;
}

/** Where a row belongs: by its rank, and among its like by its place in the fleet. */
function behind(a, b) {
  return (Number(a.dataset.rank) - Number(b.dataset.rank) || Number(a.dataset.place) - Number(b.dataset.place)) > 0;
}

function settle(body, row) {
  if (row.dataset.place === undefined) row.dataset.place = body.rows.length;
  row.remove();
  // The others are in order.
  let [low, high] = [0, body.rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (behind(body.rows[middle], row)) high = middle;
    else low = middle + 1;
  }
  body.insertBefore(row, body.rows[low] ?? null);
}

function announce(changed) {
  const told = changed.slice(0, 3).map((row) => row.dataset.said).filter(Boolean);
  if (told.length) say(told.join('. ') + (changed.length > 3 ? `. And ${changed.length - 3} more.` : '.'));
}

function summarize(body) {
  const byRank = new Map();
  for (const row of body.rows) byRank.set(row.dataset.rank, (byRank.get(row.dataset.rank) ?? 0) + 1);
  for (const tile of document.querySelectorAll('#summary li')) {
    const ranks = tile.dataset.ranks.split(' ').filter(Boolean);
    const number = ranks.length ? ranks.reduce((sum, rank) => sum + (byRank.get(rank) ?? 0), 0) : body.rows.length;
    const text = number.toLocaleString('en');
    const count = tile.querySelector('b');
    if (count.textContent !== text) count.textContent = text;
    tile.hidden = number === 0 && ranks.length > 0;
  }
}

/** `rows` have changed; `all`, where it is there, are the ids of all that there are. */
function patch({ rows, all }) {
  const begun = performance.now();
  const body = document.querySelector('#machines tbody');
  if (!body) {
    // The first machine of all: there was no table yet.
    if (rows.length) refresh();
    return;
  }
  const changed = [];
  steadily(() => {
    for (const html of rows) {
      const next = rowOf(html);
      let row = document.getElementById(next.id);
      times(next);
      const moves = row?.dataset.rank !== next.dataset.rank || (next.dataset.place ?? row.dataset.place) !== row.dataset.place;
      if (row) {
        if (row.dataset.said !== next.dataset.said) changed.push(next);
        if (next.dataset.place !== undefined) row.dataset.place = next.dataset.place;
        morph(row, next);
      } else {
        row = document.importNode(next, true);
      }
      if (moves) settle(body, row);
    }
    if (all) {
      const there = new Set(all);
      for (const row of [...body.rows]) if (!there.has(row.id)) row.remove();
    }
    summarize(body);
    if (filter?.value) sift();
  });
  announce(changed);
  performance.measure('pitstop-update', { start: begun });
}

// ---- News of other pages: what the page would be now, laid over what it is.

let refreshing = null;
let again = false;

async function refresh() {
  if (refreshing) {
    again = true;
    return refreshing;
  }
  refreshing = relay();
  await refreshing;
}

async function relay() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, cache: 'no-store' });
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) {
      location.assign(answer.url);
      return;
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const begun = performance.now();
    steadily(() => {
      for (const part of page.querySelectorAll('[data-part]')) {
        const here = document.getElementById(part.id);
        if (!here) continue;
        times(part);
        morph(here, part);
      }
    });
    waits();
    if (logOf() !== following) {
      close();
      open();
    }
    performance.measure('pitstop-update', { start: begun });
  } catch {
    // The server is gone for now; the stream notices, and asks again.
  } finally {
    refreshing = null;
    if (again) {
      again = false;
      setTimeout(refresh, 500);
    }
  }
}

// ---- The log of a run, as it comes.

function more({ run, at, text }) {
  const log = document.getElementById('log');
  if (!log || log.dataset.run !== run) return;
  const low = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(text);
  log.dataset.at = at;
  if (low) log.scrollTop = log.scrollHeight;
}

// ---- The stream. It is closed while nobody looks: a browser has six connections to a server, and as many open tabs.

let source = null;
let following;
let wait = 500;
let timer = 0;
let lost = false;

/** The run whose log the page shows while it grows. */
function logOf() {
  return document.getElementById('log')?.dataset.run;
}

function address() {
  const url = new URL('/live', location.origin);
  url.searchParams.set('page', main.dataset.page);
  url.searchParams.set('of', main.dataset.of);
  url.searchParams.set('last', main.dataset.last);
  following = logOf();
  if (following) {
    url.searchParams.set('log', following);
    url.searchParams.set('from', document.getElementById('log').dataset.at);
  }
  return url;
}

/** Does `act` with what an event says, and keeps which one it was: after a break the server goes on behind it. */
function hear(act) {
  return (event) => {
    if (event.lastEventId) main.dataset.last = event.lastEventId;
    act(event.data && JSON.parse(event.data));
  };
}

function shine(state, text) {
  if (!light || light.dataset.state === state) return;
  light.dataset.state = state;
  light.textContent = text;
}

function open() {
  clearTimeout(timer);
  if (source || document.hidden || !main.dataset.page) return;
  source = new EventSource(address());
  source.onopen = () => {
    wait = 500;
    shine('on', 'Live');
    if (lost) {
      say('The server is back.');
    }
    lost = false;
  };
  source.addEventListener('rows', hear(patch));
  source.addEventListener('changed', hear(refresh));
  source.addEventListener('log', hear(more));
  source.onerror = () => {
    close();
    if (!lost) say('The server does not answer. What you see is as it was.');
    lost = true;
    shine('off', 'Reconnecting…');
    timer = setTimeout(open, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, 10000);
  };
}

function close() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) close();
  else open();
});
window.addEventListener('pagehide', close);
window.addEventListener('pageshow', open);

// ---- Acts that ask: the button waits for the machine's name.

function waits() {
  for (const input of document.querySelectorAll('input[data-must]')) {
    const button = input.form.querySelector('button');
    button.dataset.waits = '';
    button.disabled = input.value.trim() !== input.dataset.must;
  }
}

document.addEventListener('input', (event) => {
  if (event.target.matches?.('input[data-must]')) waits();
});

// ---- The queue: up and down without a new page, and by dragging.

async function quietly(form) {
  const answer = await fetch(form.action, {
    method: 'POST',
    headers: { Accept: 'text/html' },
    body: new URLSearchParams(new FormData(form)),
  });
  if (!answer.ok) {
    location.reload();
    return;
  }
  await refresh();
}

document.addEventListener('submit', async (event) => {
  const form = event.target;
  if (!form.matches('form[data-quiet]')) return;
  event.preventDefault();
  const row = form.closest('tr');
  const way = event.submitter?.dataset.way;
  await quietly(form);
  // The button under the finger may be off now, at an end of the list.
  const next = row?.isConnected && row.querySelector(`button[data-way="${way}"]:not([disabled])`);
  (next || row?.querySelector('button:not([disabled])'))?.focus();
  if (row?.dataset.name) {
    const place = [...row.parentNode.children].indexOf(row) + 1;
    say(`${row.dataset.name} is number ${place} now.`);
  }
});

let dragged = null;

document.addEventListener('dragstart', (event) => {
  dragged = event.target.closest?.('tr[draggable]');
  if (!dragged) return;
  dragged.classList.add('dragged');
  event.dataTransfer.effectAllowed = 'move';
  event.dataTransfer.setData('text/plain', dragged.dataset.job);
});

function under(event) {
  const row = event.target.closest?.('tr[draggable]');
  return dragged && row && row !== dragged && row.parentNode === dragged.parentNode ? row : null;
}

document.addEventListener('dragover', (event) => {
  for (const row of document.querySelectorAll('tr.over')) row.classList.remove('over');
  const row = under(event);
  if (!row) return;
  event.preventDefault();
  row.classList.add('over');
});

document.addEventListener('drop', (event) => {
  const row = under(event);
  const form = document.getElementById('move');
  if (!row || !form) return;
  event.preventDefault();
  form.elements.job.value = dragged.dataset.job;
  form.elements.before.value = row.dataset.job;
  const name = dragged.dataset.name;
  quietly(form).then(() => say(`${name} was moved.`));
});

document.addEventListener('dragend', () => {
  dragged?.classList.remove('dragged');
  dragged = null;
  for (const row of document.querySelectorAll('tr.over')) row.classList.remove('over');
});

// ---- Begin.

waits();
open();
requestAnimationFrame(() => setTimeout(() => {
  times(document);
  sift();
  const log = document.getElementById('log');
  if (log) log.scrollTop = log.scrollHeight;
  setInterval(() => times(document), 30000);
}));
