/* Loaded in the head, before the first paint, so that a remembered theme does not flash. */
{
  const remembered = (() => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is off: follow the system
    }
  })();
  if (remembered === "light" || remembered === "dark") document.documentElement.dataset.theme = remembered;

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-toggle");
    if (!button) return;
    const isDark = () => {
      const chosen = document.documentElement.dataset.theme;
      return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    };
    const label = () => button.setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`);
    label();
    button.addEventListener("click", () => {
      const next = isDark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try {
        localStorage.setItem("theme", next);
      } catch {
        // storage is off: the choice lasts for this page
      }
      label();
    });
  });
}
