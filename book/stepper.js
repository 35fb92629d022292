// Steps through the figures of a page: the stories that `tui/html` has drawn.
//
// The page has everything that is said at each step, as texts and their numbers; this script shows
// it, and computes nothing. It loads nothing and keeps nothing.
//
// In the book the arrow keys belong to mdBook, which turns its pages with them. A figure takes the
// keys only while it has the focus. On a page of its own a figure always has them.
'use strict';

(() => {
  const ROW = 20;
  const alone = document.body.classList.contains('glass-page');
  const read = (node) => JSON.parse(node.textContent);
  const sharedNode = document.getElementById('glass-shared');
  const shared = sharedNode ? read(sharedNode) : null;

  // An element with a class and a text; texts never become markup.
  function make(parent, tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  // Replaces the content by lines of pieces, none of which is broken.
  function fill(parent, lines) {
    parent.replaceChildren();
    for (const line of lines) {
      const row = make(parent, 'div', 'line');
      // The blank is for those who copy the line, and for those who hear it.
      for (const piece of line.split('\t')) {
        make(row, 'span', '', piece);
        row.append(' ');
      }
    }
  }

  class Stepper {
    constructor(figure) {
      const data = read(figure.querySelector('script[type="application/json"]'));
      const { texts, keys } = data.texts ? data : shared;
      Object.assign(this, { figure, texts, keys, steps: data.steps, at: data.start || 0, lens: 0 });
      this.rows = figure.querySelector('.rows');
      this.drawn = [...figure.querySelectorAll('.step')];
      this.lines = [...figure.querySelectorAll('[data-of]')];
      this.heads = [...figure.querySelectorAll('.head')];
      if (this.steps.length === 0) return;
      this.build();
      figure.addEventListener('keydown', (event) => this.key(event));
      this.rows.addEventListener('click', (event) => this.click(event));
      this.show();
    }

    // The bar and the panel, which the page does not have without this script.
    build() {
      const { figure, keys } = this;
      figure.classList.add('live');
      figure.tabIndex = 0;
      const svg = this.rows.querySelector('svg');
      this.here = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
      for (const [name, value] of [['class', 'here'], ['width', '100%'], ['height', ROW], ['rx', 3]]) {
        this.here.setAttribute(name, value);
      }
      svg.prepend(this.here);
      const bar = make(figure, 'div', 'bar');
      this.rows.after(bar);
      const button = (sign, action, word) => {
        const node = make(bar, 'button', '', sign);
        if (word) make(node, 'span', '', ` ${word}`);
        node.type = 'button';
        node.title = `${keys[action][0]}: ${keys[action][1]}`;
        node.setAttribute('aria-label', keys[action][1]);
        node.addEventListener('click', () => this.act(action));
        return node;
      };
      this.first = button('|◀', 2);
      this.back = button('◀', 1);
      this.next = button('▶', 0);
      this.last = button('▶|', 3);
      this.place = make(bar, 'output', '');
      button('x', 4, 'lens');
      this.toOther = button('m', 5, 'other end');
      this.toCause = button('c', 6, 'cause');
      this.toEffect = button('e', 7, 'effect');
      button('p', 8, 'path');
      button('?', 9);
      const panel = make(figure, 'div', 'panel');
      bar.after(panel);
      this.help = make(panel, 'ul', 'help');
      this.help.hidden = true;
      for (const [shown, does] of keys) {
        const row = make(this.help, 'li', '');
        make(row, 'kbd', '', shown);
        row.append(` ${does}`);
      }
      this.lensTitle = make(panel, 'h4', 'lens');
      this.answer = make(panel, 'div', 'answer');
      this.whyTitle = make(panel, 'h4', 'why');
      this.meaning = make(panel, 'p', 'meaning');
      this.meaning.setAttribute('aria-live', 'polite');
      this.numbers = make(panel, 'div', 'numbers');
      this.sources = make(panel, 'div', 'numbers sources');
      this.address = make(panel, 'div', 'numbers address');
    }

    text(number) {
      return number === null ? '' : this.texts[number];
    }

    show() {
      const { at, steps, drawn } = this;
      const step = steps[at];
      drawn.forEach((row, number) => {
        row.classList.toggle('later', at < number);
        row.classList.toggle('now', at === number);
      });
      for (const line of this.lines) line.classList.toggle('later', at < Number(line.dataset.of));
      const y = Number(drawn[at].querySelector('circle').getAttribute('cy')) - ROW / 2;
      this.here.setAttribute('y', y);
      const room = this.rows.clientHeight;
      if (y < this.rows.scrollTop + ROW || this.rows.scrollTop + room < y + 3 * ROW) {
        this.rows.scrollTop = y - room / 2;
      }
      this.heads.forEach((head, lane) => {
        const [role, numbers, tone] = this.text(step.heads[lane]).split('\t');
        head.className = `head ${tone}`;
        head.querySelector('i').textContent = role;
        head.querySelector('small').textContent = numbers;
      });
      this.place.value = `${at + 1}/${steps.length}`;
      this.first.disabled = this.back.disabled = at === 0;
      this.last.disabled = this.next.disabled = at + 1 === steps.length;
      [this.toOther, this.toCause, this.toEffect].forEach((node, way) => {
        node.disabled = step.go[way] === null;
      });
      this.say(step);
    }

    say(step) {
      this.lensTitle.textContent = this.text(step.lenses[2 * this.lens]);
      fill(this.answer, this.text(step.lenses[2 * this.lens + 1]).split('\n'));
      const [title, meaning, numbers, sources] = step.why.map((number) => this.text(number));
      this.whyTitle.textContent = `WHY ${title}`;
      this.meaning.textContent = meaning;
      fill(this.numbers, [numbers]);
      fill(this.sources, [sources]);
      this.link();
      this.address.textContent = this.text(step.at);
    }

    // In the book, the chapter that a step names is a link.
    link() {
      for (const piece of this.sources.querySelectorAll('span')) {
        const [word, number] = piece.textContent.split(' ');
        if (word !== 'book') continue;
        const chapters = [...document.querySelectorAll('.sidebar a')];
        const chapter = chapters.find((one) => one.textContent.trim().startsWith(`${number} `));
        if (!chapter) continue;
        piece.textContent = `${word} `;
        make(piece, 'a', '', number).href = chapter.href;
      }
    }

    go(place) {
      if (place === null || place < 0 || this.steps.length <= place) return;
      this.at = place;
      this.show();
    }

    // The actions in the order of the page's list of keys.
    act(action) {
      const { at, steps } = this;
      switch (action) {
        case 0: return this.go(at + 1);
        case 1: return this.go(at - 1);
        case 2: return this.go(0);
        case 3: return this.go(steps.length - 1);
        case 4:
          this.lens = (this.lens + 1) % (steps[at].lenses.length / 2);
          return this.say(steps[at]);
        case 5: case 6: case 7: return this.go(steps[at].go[action - 5]);
        case 8: return void this.figure.classList.toggle('path');
        default: return void (this.help.hidden = !this.help.hidden);
      }
    }

    key(event) {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const KEYS = {
        ArrowRight: 0, l: 0, ArrowLeft: 1, h: 1, Home: 2, g: 2, End: 3, G: 3,
        x: 4, m: 5, c: 6, e: 7, p: 8, '?': 9,
      };
      if (!Object.hasOwn(KEYS, event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      this.act(KEYS[event.key]);
    }

    click(event) {
      const y = event.clientY - this.rows.querySelector('svg').getBoundingClientRect().top;
      const near = (row) => Math.abs(Number(row.querySelector('circle').getAttribute('cy')) - y);
      const best = this.drawn.reduce((one, other) => (near(other) < near(one) ? other : one));
      if (near(best) <= ROW / 2) this.go(this.drawn.indexOf(best));
    }
  }

  const steppers = [...document.querySelectorAll('figure.glass')].map((figure) => new Stepper(figure));

  // On paper everything is there at once.
  addEventListener('beforeprint', () => {
    document.querySelectorAll('.glass details').forEach((details) => { details.open = true; });
  });

  if (!alone || steppers.length === 0) return;

  // A page of its own shows one story at a time, the one that its address names.
  const links = [...document.querySelectorAll('nav a')];
  let shown = steppers[0];
  function choose() {
    const named = steppers.find((one) => `#${one.figure.id}` === location.hash);
    shown = named || shown;
    for (const one of steppers) one.figure.hidden = one !== shown;
    for (const link of links) {
      if (link.hash === `#${shown.figure.id}`) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    }
    if (shown.steps.length !== 0) shown.show();
  }
  addEventListener('hashchange', choose);
  document.addEventListener('keydown', (event) => {
    const way = { PageDown: 1, PageUp: -1 }[event.key];
    const other = way && steppers[steppers.indexOf(shown) + way];
    if (other) {
      event.preventDefault();
      location.hash = other.figure.id;
    } else if (shown.steps.length !== 0) {
      shown.key(event);
    }
  });
  choose();
})();
