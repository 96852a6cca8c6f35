"use strict";
(function () {
  var tools = document.querySelector(".tools");
  if (!tools) return;
  var panel = document.getElementById("panel");
  var said = document.getElementById("said");
  var find = document.getElementById("find");
  var differing = Array.prototype.slice.call(document.querySelectorAll(".graph .removed, .graph .added, .graph .changed"));
  var boxes = Array.prototype.slice.call(document.querySelectorAll(".graph .n"));
  var place = -1;
  var here = null;
  tools.hidden = false;
  if (!differing.length) {
    document.getElementById("next").hidden = true;
    document.getElementById("previous").hidden = true;
  }

  function row(box) {
    return document.getElementById("r" + box.id);
  }

  function show(box, move) {
    if (here) here.classList.remove("here");
    here = box;
    box.classList.add("here");
    if (move) {
      var pane = box.closest(".graph");
      var inner = box.getBoundingClientRect();
      var outer = pane.getBoundingClientRect();
      pane.scrollLeft += inner.left + inner.width / 2 - outer.left - outer.width / 2;
      pane.scrollTop += inner.top + inner.height / 2 - outer.top - outer.height / 2;
    }
    var cells = row(box).children;
    var heads = row(box).closest("table").querySelectorAll("thead th");
    var list = document.createElement("dl");
    for (var i = 0; i < cells.length; i++) {
      if (!cells[i].textContent) continue;
      var term = document.createElement("dt");
      var words = document.createElement("dd");
      term.textContent = heads[i].textContent;
      words.textContent = cells[i].textContent;
      list.append(term, words);
    }
    panel.replaceChildren(list);
    panel.hidden = false;
  }

  function step(by) {
    if (!differing.length) return;
    place = (place + by + differing.length) % differing.length;
    show(differing[place], true);
    said.textContent = "difference " + (place + 1) + " of " + differing.length;
  }

  document.getElementById("next").addEventListener("click", function () { step(1); });
  document.getElementById("previous").addEventListener("click", function () { step(-1); });

  function scale(by) {
    document.querySelectorAll(".graph svg").forEach(function (svg) {
      var factor = Math.min(4, Math.max(0.05, (svg.getAttribute("width") / svg.dataset.w) * by));
      svg.setAttribute("width", svg.dataset.w * factor);
      svg.setAttribute("height", svg.dataset.h * factor);
    });
  }
  document.getElementById("in").addEventListener("click", function () { scale(1.4); });
  document.getElementById("out").addEventListener("click", function () { scale(1 / 1.4); });

  find.addEventListener("keydown", function (event) {
    if (event.key !== "Enter" || !find.value) return;
    var wanted = find.value.toLowerCase();
    var matching = boxes.filter(function (box) {
      return row(box).textContent.toLowerCase().indexOf(wanted) >= 0;
    });
    if (!matching.length) {
      said.textContent = "no node has " + find.value;
      return;
    }
    var next = matching[(matching.indexOf(here) + 1) % matching.length];
    show(next, true);
    said.textContent = matching.length + " nodes found";
  });

  document.querySelectorAll(".graph").forEach(function (pane) {
    var from = null;
    // A wide drawing begins where its first node is, not at its empty corner.
    var first = pane.querySelector(".n");
    if (first) {
      var box = first.getBoundingClientRect();
      var outer = pane.getBoundingClientRect();
      pane.scrollLeft += box.left + box.width / 2 - outer.left - outer.width / 2;
    }
    pane.addEventListener("click", function (event) {
      var box = event.target.closest(".n");
      if (box) show(box, false);
    });
    pane.addEventListener("wheel", function (event) {
      if (!event.ctrlKey) return;
      event.preventDefault();
      scale(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { passive: false });
    pane.addEventListener("pointerdown", function (event) {
      if (event.pointerType === "mouse") from = [event.clientX + pane.scrollLeft, event.clientY + pane.scrollTop];
    });
    pane.addEventListener("pointermove", function (event) {
      if (!from) return;
      pane.scrollLeft = from[0] - event.clientX;
      pane.scrollTop = from[1] - event.clientY;
    });
    ["pointerup", "pointerleave"].forEach(function (name) {
      pane.addEventListener(name, function () { from = null; });
    });
  });

  document.addEventListener("keydown", function (event) {
    if (event.target.closest("input")) return;
    if (event.key === "n") step(1);
    if (event.key === "p") step(-1);
  });

  document.querySelectorAll("a[href^='#a'], a[href^='#b']").forEach(function (link) {
    link.addEventListener("click", function (event) {
      var box = document.getElementById(link.getAttribute("href").slice(1));
      if (!box || !box.closest(".graph")) return;
      event.preventDefault();
      box.closest(".graph").scrollIntoView({ block: "center" });
      show(box, true);
    });
  });
})();
