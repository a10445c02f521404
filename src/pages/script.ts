/**
 * The one script of the pages: comforts over what the pages can do without it. It reads what the page says in its `data-`
 * attributes and makes elements; it never makes elements of text, which the policy of the pages would not let it do either.
 */
export const script = `'use strict';
for (const button of document.querySelectorAll('[data-copy]')) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener('click', async () => {
    const { copy, done, failed } = button.dataset;
    const say = (text) => { button.nextElementSibling.textContent = text; };
    try {
      await navigator.clipboard.writeText(new URL(copy, location.href).href);
      say(done);
    } catch {
      say(failed);
    }
  });
}

const viewer = document.getElementById('viewer');
const links = [...document.querySelectorAll('a[data-large]')];
let shown = 0;

function show(index) {
  shown = (index + links.length) % links.length;
  const link = links[shown];
  const { large, srcset, name } = link.dataset;
  const picture = document.createElement('img');
  picture.alt = name;
  if (srcset) {
    picture.sizes = '100vw';
    picture.srcset = srcset;
  }
  picture.src = large;
  viewer.querySelector('.picture').replaceChildren(picture);
  viewer.querySelector('bdi').textContent = name;
  viewer.querySelector('a').href = link.href;
}

if (viewer && typeof viewer.showModal === 'function') {
  for (const [index, link] of links.entries())
    link.addEventListener('click', (event) => {
      // Whoever wants a new tab or window gets the page of the file there.
      if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      show(index);
      viewer.showModal();
    });
  for (const button of viewer.querySelectorAll('[data-step]')) {
    button.hidden = links.length < 2;
    button.addEventListener('click', () => show(shown + Number(button.dataset.step)));
  }
  viewer.querySelector('[data-close]').addEventListener('click', () => viewer.close());
  viewer.addEventListener('keydown', ({ key }) => {
    if (key === 'ArrowLeft') show(shown - 1);
    if (key === 'ArrowRight') show(shown + 1);
  });
  viewer.addEventListener('close', () => {
    viewer.querySelector('.picture').replaceChildren();
    links[shown].focus();
  });
}
`;
