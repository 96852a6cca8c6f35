// Opens pages in headless Chromium and answers, as JSON lines, what is wrong with each.
//
//     node judge.mjs BROWSER FOLDER-FOR-PICTURES PAGE...
//
// The packages are looked for beside the working directory, so that nothing is installed in the repository.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "here.js"));
const puppeteer = (await import(pathToFileURL(require.resolve("puppeteer-core")))).default;
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [browserPath, pictures, ...pages] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: browserPath,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
  headless: true,
});

function say(file, what, wrong) {
  console.log(JSON.stringify({ file: path.basename(file), what, wrong }));
}

async function open(file, { width, scheme, script }) {
  const page = await browser.newPage();
  const said = [];
  const asked = [];
  const own = pathToFileURL(file).href;
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith("data:") && request.url() !== own) asked.push(request.url());
  });
  await page.setJavaScriptEnabled(script);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width, height: 900 });
  const begin = Date.now();
  await page.goto(own, { waitUntil: "load" });
  return { page, said, asked, took: Date.now() - begin };
}

for (const file of pages) {
  for (const scheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const { page, said, asked, took } = await open(file, { width, scheme, script: true });
      const where = `${scheme}, ${width} wide`;
      say(file, `${where}: no message on the console`, said.join("; "));
      say(file, `${where}: no request`, asked.join("; "));
      say(file, `${where}: drawn in 2 s`, took < 2000 ? "" : `${took} ms`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      say(file, `${where}: nothing is wider than the window`, over > 0 ? `${over} pixels` : "");
      await page.evaluate(axe);
      const found = await page.evaluate(async () => {
        const { violations } = await window.axe.run();
        return violations
          .filter((rule) => rule.impact === "serious" || rule.impact === "critical")
          .map((rule) => `${rule.id}: ${rule.nodes[0].html.slice(0, 200)}`);
      });
      say(file, `${where}: axe-core finds nothing serious`, found.join("; "));
      if (pictures) {
        const name = `${path.basename(file, ".html")}-${scheme}-${width}.png`;
        await page.screenshot({ path: path.join(pictures, name), fullPage: true });
      }
      await page.close();
    }
  }

  // Every difference is reached by the button, and the panel tells of it.
  const { page } = await open(file, { width: 1280, scheme: "light", script: true });
  const walk = await page.evaluate(() => {
    const next = document.getElementById("next");
    const differing = document.querySelectorAll(".graph .removed, .graph .added, .graph .changed").length;
    if (!next || differing === 0) return "";
    next.click();
    const panel = document.getElementById("panel");
    const box = document.querySelector(".n.here");
    if (!box) return "no node is marked";
    const row = document.getElementById("r" + box.id);
    if (panel.hidden) return "the panel stays hidden";
    for (const cell of row.children) {
      if (cell.textContent && !panel.textContent.includes(cell.textContent)) return `the panel lacks ${cell.textContent}`;
    }
    const pane = box.closest(".graph").getBoundingClientRect();
    const inner = box.getBoundingClientRect();
    const inside = inner.left < pane.right && inner.right > pane.left && inner.top < pane.bottom && inner.bottom > pane.top;
    return inside ? "" : "the node is out of sight";
  });
  say(file, "the next difference is shown", walk);
  await page.close();

  // Without scripts: what pictures show stands in the text.
  const plain = await open(file, { width: 1280, scheme: "light", script: false });
  const content = await plain.page.content();
  const parsed = await browser.newPage();
  await parsed.setContent(content.replace(/<script>[\s\S]*<\/script>/, ""));
  const lacking = await parsed.evaluate(() => {
    const shown = Array.from(document.querySelectorAll(".plot text, .graph .n text"));
    const main = document.querySelector("main").cloneNode(true);
    main.querySelectorAll("svg").forEach((svg) => svg.remove());
    // Titles of pictures and what stands in details is text as well: readers of screens get it, and so does a search.
    const titles = Array.from(document.querySelectorAll(".plot title")).map((title) => title.textContent);
    const words = main.textContent + titles.join(" ");
    const numbers = (text) => text.match(/\d[\d,.]*\d|\d/g) || [];
    const own = new Set(numbers(words));
    const axis = new Set(Array.from(document.querySelectorAll(".plot .grid + .end")).map((text) => text.textContent));
    return shown
      .filter((text) => !axis.has(text.textContent))
      .flatMap((text) => (text.textContent.endsWith(" dB") ? [] : numbers(text.textContent)))
      .filter((number) => !own.has(number) && !words.includes(number))
      .slice(0, 5);
  });
  say(file, "without scripts: the figures of the pictures are in the text", lacking.join("; "));
  await parsed.close();
  await plain.page.close();
}
await browser.close();
