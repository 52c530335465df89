"""The built site in a browser: is anything too wide, is every formula set, does a page ask for what is elsewhere?

    python docs/measure.py SITE [PAGE ...]      # all pages, where none is named

Each page is opened in a frame as wide as a small laptop's screen, in light and in dark, and as a phone's. Ends with 1
where a cell of code or a table does not fit the laptop, where a page is wider than the phone (what is wide has to
scroll in its own box), where a formula is not set, where text can hardly be told from its ground, where a file is
missing, or where anything is asked of another host. The browser is chromium, or what the variable BROWSER names;
without one this ends with 0 and says so."""
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LEAST_CONTRAST = 3.
PATIENCE = 180  # seconds for a page
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; report-uri /report"
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
QUIET = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
         '--disable-background-networking', '--disable-component-update', '--disable-extensions')


class Site(SimpleHTTPRequestHandler):
    "The site, under a policy that reports what a page asks of other hosts; and what measure.html asks and tells."

    def end_headers(self):
        self.send_header('Content-Security-Policy', POLICY)
        super().end_headers()

    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path == '/measure':
            self.answer(Path(__file__).with_name('measure.html').read_bytes(), 'text/html; charset=utf-8')
        elif self.path == '/pages':
            self.answer(json.dumps(self.server.pages).encode(), 'application/json')
        else:
            super().do_GET()

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        if self.path == '/report':
            self.server.asked.append(said['csp-report'])
        elif 'done' in said:
            self.server.done.set()
        else:
            self.server.found.append(said)
        self.answer(b'', 'text/plain')

    def answer(self, content: bytes, kind: str):
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code, *args, **more):
        self.server.missing.append(self.path)
        super().send_error(code, *args, **more)


def serve(site: Path, pages: list):
    "A server for the site on this machine alone, running."
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Site, directory=str(site)))
    server.pages, server.found, server.asked, server.missing = pages, [], [], []
    server.done = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def browser() -> str | None:
    return os.environ.get('BROWSER') or next((found for name in NAMES if (found := shutil.which(name))), None)


def look(program: str, site: Path, pages: list):
    "The server, after the browser has been through all pages."
    server = serve(site, pages)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, *QUIET, f'--user-data-dir={folder}', '--window-size=1400,1000',
                   '--remote-debugging-port=0', f'http://127.0.0.1:{server.server_port}/measure']
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            seen = -1
            while not server.done.wait(PATIENCE) and len(server.found) > seen:
                seen = len(server.found)
            if not server.done.is_set():
                server.found.append(dict(page=pages[seen], problem=f'no answer within {PATIENCE} s'))
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
    return server


def problems_of(page: dict) -> list:
    "What is wrong with a page, in words."
    if 'problem' in page:
        return [page['problem']]
    found = []
    for name, what in (('code_over', 'a cell of code at 1280 pixels'), ('table_over', 'a table at 1280 pixels'),
                       ('page_over', 'the page at 1280 pixels'), ('phone_over', 'the page on a phone')):
        found += [f'{what} is {page[name]} pixels too wide'] if page[name] > 0 else []
    found += [f"{page['unset']} formulas are not set"] if page['unset'] else []
    found += [f"{page['phone_cut']} tables cannot be scrolled on a phone"] if page['phone_cut'] else []
    for scheme in ('default', 'slate'):
        ratio, where = page[f'faintest_{scheme}']
        found += [f'contrast {ratio:.1f} in {scheme}: {where}'] if ratio < LEAST_CONTRAST else []
    return found


def summary(found: list) -> str:
    "The numbers of all pages together."
    found = [page for page in found if 'problem' not in page]
    count = {name: sum(page[name] for page in found) for name in ('cells', 'tables', 'formulas', 'unset')}
    widths = ('code_over', 'table_over', 'phone_over')
    over = {name: max((page[name] for page in found), default=0) for name in widths}
    faint = min((page[f'faintest_{scheme}'][0] for page in found for scheme in ('default', 'slate')), default=21)
    wide = f"code {over['code_over']}, tables {over['table_over']}, phone {over['phone_over']}"
    return (f"{len(found)} pages, {count['cells']} cells of code, {count['tables']} tables, {count['formulas']} "
            f"formulas ({count['unset']} not set); pixels too wide: {wide}; least contrast {faint:.1f}")


def main(site: Path, pages: list) -> int:
    program = browser()
    if program is None:
        print('measure: no chromium here, the pages were not looked at')
        return 0
    seen = look(program, site, pages or sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html')
                                               if 'atlas/' not in p.as_posix() and p.name != '404.html'))
    problems = [f"{page['page']}: {problem}" for page in seen.found for problem in problems_of(page)]
    problems += [f"{a['document-uri']}: asks for {a['blocked-uri']}" for a in seen.asked]
    problems += [f'{path}: is asked for and not there' for path in sorted(set(seen.missing))]
    print(*problems, sep='\n', end='\n' if problems else '')
    print(f'{summary(seen.found)}: {len(problems)} problems')
    return int(bool(problems) or not seen.found)


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
