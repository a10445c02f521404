/** The one style sheet of the pages: from 360 px to 4K, light and dark, for eyes, keyboards and fingers. */
export const style = `
:root {
  color-scheme: light dark;
  --ground: #f6f7f9;
  --surface: #ffffff;
  --sunken: #e9ecf1;
  --text: #14181f;
  --soft: #4d5766;
  --line: #c9d0da;
  --accent: #0b57d0;
  --on-accent: #ffffff;
  --accent-strong: #0842a0;
  --fault: #a8150a;
  --edge: #7a8595;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #101318;
    --surface: #1a1f27;
    --sunken: #262d38;
    --text: #eef1f5;
    --soft: #b3bdcb;
    --line: #3a4453;
    --accent: #a8c7fa;
    --on-accent: #062e6f;
    --accent-strong: #d3e3fd;
    --fault: #ffb4ab;
    --edge: #8b97a8;
  }
}
*, ::before, ::after { box-sizing: border-box; }
[hidden] { display: none !important; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding: 1rem; }
body {
  margin: 0 auto;
  max-width: 82rem;
  min-height: 100vh;
  min-height: 100dvh;
  padding: max(1rem, env(safe-area-inset-top)) max(1rem, env(safe-area-inset-right)) max(1rem, env(safe-area-inset-bottom)) max(1rem, env(safe-area-inset-left));
  display: flex;
  flex-direction: column;
  gap: 1.25rem;
  background: var(--ground);
  color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
body:has(.gallery) { max-width: 120rem; }
main { flex: 1; display: flex; flex-direction: column; gap: 1.25rem; min-width: 0; }
header, footer { display: flex; flex-direction: column; gap: .5rem; }
h1, p, ul { margin: 0; }
h1 { font-size: clamp(1.25rem, 1rem + 1.2vw, 2rem); line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: .2em; }
a:hover { color: var(--accent-strong); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: .25rem; }
nav a { display: inline-block; min-height: 2.75rem; padding-block: .6rem; }
.label { color: var(--soft); font-weight: 550; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: .15rem 1.25rem; padding: 0; list-style: none; color: var(--soft); }
.note, footer, .status, .request { color: var(--soft); }
.note { padding: 1.25rem; border: 1px dashed var(--edge); border-radius: .75rem; }
.stage {
  display: grid;
  place-items: center;
  padding: .75rem;
  border-radius: .75rem;
  background: var(--sunken);
}
.stage img, .stage video { display: block; max-width: 100%; max-height: 78vh; width: auto; height: auto; border-radius: .35rem; }
.stage video { width: 100%; background: #000000; }
.sound { display: flex; flex-direction: column; gap: 1rem; padding: 1rem; border-radius: .75rem; background: var(--sunken); }
.sound img { max-width: 20rem; width: 100%; height: auto; border-radius: .35rem; }
.sound .waveform { max-width: none; max-height: 10rem; }
.sound audio { width: 100%; }
.actions { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem; }
.button {
  display: inline-flex;
  align-items: center;
  justify-content: center;
  min-height: 2.75rem;
  padding: .5rem 1.25rem;
  border: 1px solid var(--edge);
  border-radius: .6rem;
  background: var(--surface);
  color: var(--text);
  font: inherit;
  font-weight: 550;
  text-align: center;
  text-decoration: none;
  cursor: pointer;
}
.button:hover { border-color: var(--accent); color: var(--text); background: var(--sunken); }
.primary { border-color: var(--accent); background: var(--accent); color: var(--on-accent); }
.primary:hover { background: var(--accent-strong); border-color: var(--accent-strong); color: var(--on-accent); }
.gallery {
  display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr));
  gap: 1rem;
  padding: 0;
  list-style: none;
}
@media (min-width: 40rem) { .gallery { grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); } }
.gallery li {
  display: flex;
  flex-direction: column;
  min-width: 0;
  border: 1px solid var(--line);
  border-radius: .75rem;
  background: var(--surface);
  overflow: clip;
  content-visibility: auto;
  contain-intrinsic-size: auto 15rem;
}
.gallery li:focus-within { overflow: visible; }
.item { display: flex; flex-direction: column; flex: 1; color: inherit; text-decoration: none; }
.item:hover .name { text-decoration: underline; }
.frame { display: grid; place-items: center; aspect-ratio: 4 / 3; background: var(--sunken); border-radius: .7rem .7rem 0 0; overflow: hidden; }
.frame img { width: 100%; height: 100%; object-fit: cover; display: block; }
.extension { padding: .35rem .8rem; border: 2px solid var(--edge); border-radius: .4rem; color: var(--soft); font-weight: 650; letter-spacing: .05em; }
.gallery .name {
  display: -webkit-box;
  -webkit-box-orient: vertical;
  -webkit-line-clamp: 2;
  padding: .6rem .75rem 0;
  overflow: hidden;
  overflow-wrap: anywhere;
  line-height: 1.35;
}
.detail { display: flex; align-items: center; justify-content: space-between; gap: .5rem; min-height: 2.75rem; padding: 0 .25rem .25rem .75rem; color: var(--soft); font-size: .875rem; }
.get { display: grid; place-items: center; flex: none; width: 2.75rem; height: 2.75rem; border-radius: .5rem; }
.get:hover { background: var(--sunken); }
.pages { display: flex; flex-wrap: wrap; gap: .75rem; justify-content: center; }
.card {
  display: flex;
  flex-direction: column;
  gap: .9rem;
  width: min(100%, 28rem);
  margin: auto;
  padding: clamp(1.25rem, 4vw, 2rem);
  border: 1px solid var(--line);
  border-radius: 1rem;
  background: var(--surface);
}
label { font-weight: 600; }
input { min-height: 2.75rem; padding: .5rem .75rem; border: 1px solid var(--edge); border-radius: .6rem; background: var(--ground); color: var(--text); font: inherit; }
input[aria-invalid] { border-color: var(--fault); border-width: 2px; }
.fault { color: var(--fault); font-weight: 600; }
code { overflow-wrap: anywhere; }
dialog {
  width: 100%;
  max-width: 100%;
  height: 100%;
  max-height: 100%;
  margin: 0;
  padding: 1rem;
  border: 0;
  background: var(--ground);
  color: var(--text);
}
dialog[open] { display: flex; flex-direction: column; gap: .75rem; }
dialog .picture { flex: 1; min-height: 0; display: grid; place-items: center; }
dialog .picture img { max-width: 100%; max-height: 100%; min-height: 0; object-fit: contain; }
dialog .name { text-align: center; overflow-wrap: anywhere; max-height: 6em; overflow-y: auto; }
dialog .actions { justify-content: center; }
@media (prefers-reduced-motion: no-preference) {
  .button, .get, .gallery li { transition: background-color .15s, border-color .15s, color .15s; }
}
@media (forced-colors: active) {
  .button, .card, .gallery li, .stage { border: 1px solid; }
}
@media print {
  .actions, .pages, .get, dialog { display: none; }
}
`.trimStart();
