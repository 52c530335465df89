"""The built site: every link has a target, and no page makes a browser load anything from elsewhere.

    python docs/check.py SITE

Ends with 1 and a list where that is not so."""
import configparser
import functools
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LOADED = {
    'script': ('src',),
    'img': ('src', 'srcset'),
    'iframe': ('src', 'srcdoc'),
    'source': ('src', 'srcset'),
    'video': ('src', 'poster'),
    'audio': ('src',),
    'track': ('src',),
    'embed': ('src',),
    'object': ('data',),
    'input': ('src',),
    'image': ('href', 'xlink:href'),
    'use': ('href', 'xlink:href'),
}
LINKS = {'stylesheet', 'icon', 'preload', 'prefetch', 'modulepreload', 'preconnect', 'dns-prefetch', 'manifest'}
REMOTE = re.compile(r'^\s*(?:https?:)?//', re.I)
IN_STYLE = re.compile(r'''(?:url\(\s*|@import\s+)['"]?((?:https?:)?//[^'")\s]+)''', re.I)


class Read(HTMLParser):
    "What a page of the site names: places in it, links out of it, and what a browser loads for it."

    def __init__(self, text: str):
        super().__init__()
        self.places, self.links, self.loads, self.tag = set(), [], [], ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        given = {name: value or '' for name, value in attrs}
        self.places |= {given[name] for name in ('id', 'name') if name in given}
        self.links += [given['href']] if tag in ('a', 'area') and 'href' in given else []
        self.loads += [given[name] for name in LOADED.get(tag, ()) if name in given]
        if tag == 'link' and LINKS & set(given.get('rel', '').split()):
            self.loads.append(given.get('href', ''))
        self.loads += IN_STYLE.findall(given.get('style', ''))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_data(self, data):
        if self.tag == 'style':
            self.loads += IN_STYLE.findall(data)


def base_of_site() -> str:
    "The path that the site has on its host; links of the page for what is not found begin with it."
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    return settings['DEFAULT']['doc_baseurl'].strip('/')


def target_of(page: Path, path: str, site: Path) -> Path:
    "The file that a link of a page leads to."
    path = unquote(path)
    if path.startswith('/'):
        inside = path.strip('/').removeprefix(base_of_site()).strip('/')
        found = site/inside
    else:
        found = page.parent/path if path else page
    return found/'index.html' if found.is_dir() else found


@functools.cache
def read(page: Path) -> Read:
    return Read(page.read_text(encoding='utf-8'))


def remote(site: Path) -> list:
    "What a browser would load from elsewhere: the file that says so, and the address."
    found = [(page, url) for page in sorted(site.rglob('*.html')) for url in read(page).loads if REMOTE.match(url)]
    for sheet in sorted(site.rglob('*.css')):
        found += [(sheet, url) for url in IN_STYLE.findall(sheet.read_text(encoding='utf-8'))]
    return [f'{page.relative_to(site)}: loads {url}' for page, url in found]


def broken(site: Path) -> list:
    "Links without a target, and targets without the place that the link names."
    found = []
    for page in sorted(site.rglob('*.html')):
        for link in dict.fromkeys([*read(page).links, *read(page).loads]):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = target_of(page, parts.path, site)
            if not target.is_file():
                found.append(f'{page.relative_to(site)}: {link} leads nowhere')
            elif parts.fragment.startswith('/'):  # no place: a page's own script reads it, as the atlas does
                continue
            elif parts.fragment and target.suffix == '.html' and unquote(parts.fragment) not in read(target).places:
                found.append(f'{page.relative_to(site)}: {link} names a place that is not there')
    return found


def main(site: Path) -> int:
    pages = list(site.rglob('*.html'))
    problems = [*remote(site), *broken(site)]
    print(*problems, sep='\n', end='\n' if problems else '')
    count = sum(len(read(page).links) for page in pages)
    print(f'{len(pages)} pages, {count} links: {len(problems)} problems')
    return int(bool(problems) or not pages)


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1])))
