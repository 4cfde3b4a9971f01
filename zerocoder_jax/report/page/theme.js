// Light or dark: the system's choice, until the reader presses the button.

const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const themeListeners = [];

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkSystem.matches;
}

function applyTheme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  byId("theme").textContent = isDark() ? "Light page" : "Dark page";
  for (const listener of themeListeners) listener();
}

// The style sheet's colour of a name, as the current theme shows it.
function color(name) {
  const probe = element("i", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const shown = getComputedStyle(probe).color;
  probe.remove();
  return shown;
}

function startTheme() {
  let remembered = null;
  try {
    remembered = localStorage.getItem("zerocoder-theme");
  } catch {
    // Some browsers give pages from files no storage: the choice then lasts as long as the page.
  }
  const button = byId("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    applyTheme(chosen);
    try {
      localStorage.setItem("zerocoder-theme", chosen);
    } catch {
      // as above
    }
  });
  darkSystem.addEventListener("change", () => applyTheme());
  applyTheme(remembered === "light" || remembered === "dark" ? remembered : null);
}
