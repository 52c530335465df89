"What mkdocs calls while it builds: the site's address and navigation, and the pages that are made and not written."
import configparser
from importlib.metadata import distribution
from pathlib import Path
from mkdocs.structure.files import File
import notebooks
import pages

MATHJAX = ('tex-chtml-full.js', 'a11y/assistive-mml.js')  # and its fonts


def mathjax() -> dict:
    "File of the site -> file of the installed package."
    root = Path(distribution('django-static-mathjax').locate_file('mathjax/static/mathjax/es5'))
    wanted = [*(root/name for name in MATHJAX), *(root/'output/chtml/fonts/woff-v2').glob('*.woff')]
    return {f'mathjax/{path.relative_to(root).as_posix()}': path for path in wanted}


def on_config(config):
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(pages.ROOT/'settings.ini', encoding='utf-8')
    project = settings['DEFAULT']
    config.site_url = f"{project['doc_host']}{project['doc_baseurl']}/"
    config.site_description = project['description']
    config.nav = pages.navigation()
    return config


def on_files(files, config):
    def add(name, **what):
        files.append(File.generated(config, name, **what))

    for path in pages.sources():
        page = notebooks.Page(path)
        add(page.page, content=page.markdown())
        for name, content in page.files.items():
            add(name, content=content)
    for name, text in pages.texts().items():
        add(name, content=text)
    for name, path in {**pages.copies(), **mathjax()}.items():
        add(name, abs_src_path=str(path))
    return files
