"use strict";
// Before the page is drawn, so that it does not flash. Without a choice the system's holds.
try {
  const chosen = localStorage.getItem("memory-r1 theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's theme it is */ }
