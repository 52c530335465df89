"""A small server that speaks those parts of the Hub's protocol that huggingface_hub needs to make a repository, commit
to it, and read a snapshot of it. It keeps everything in memory; `python hub_stand_in.py` prints its address."""
import base64
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPOS = {}  # owner/name -> {revision or commit: {path: bytes}}


def commit_of(files: dict) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {'Content-Length': len(body), **headers}.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def missing(self, code):
        self.answer(dict(error=code), 404, X_Error_Code=code)

    def parts(self):
        return [unquote(part) for part in urlsplit(self.path).path.strip('/').split('/')]

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        parts = self.parts()
        if parts == ['api', 'repos', 'create']:
            told = json.loads(body)
            name = f"{told.get('organization', 'me')}/{told['name']}"
            REPOS.setdefault(name, {'main': {}})
            return self.answer(dict(url=f'http://{self.headers["Host"]}/{name}', name=name))
        if parts == ['api', 'validate-yaml']:
            return self.answer(dict(errors=[], warnings=[]))
        name, what, revision = '/'.join(parts[2:4]), parts[4], parts[5]
        if what == 'preupload':
            paths = [f['path'] for f in json.loads(body)['files']]
            return self.answer(dict(files=[dict(path=p, uploadMode='regular', shouldIgnore=False) for p in paths]))
        if what == 'commit':
            files = dict(REPOS[name].get(revision, {}))
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    files[line['value']['path']] = base64.b64decode(line['value']['content'])
            commit = commit_of(files)
            REPOS[name] |= {revision: files, commit: files}
            address = f'http://{self.headers["Host"]}/{name}/commit/{commit}'
            return self.answer(dict(success=True, commitOid=commit, commitUrl=address, hookOutput=''))
        self.missing('Unknown')

    def do_GET(self):
        parts = self.parts()
        if parts[:2] == ['api', 'models']:
            return self.about('/'.join(parts[2:4]), *parts[4:6])
        name, revision, path = '/'.join(parts[:2]), parts[3], '/'.join(parts[4:])
        if name not in REPOS:
            return self.missing('RepoNotFound')
        files = REPOS[name].get(revision)
        if files is None or path not in files:
            return self.missing('RevisionNotFound' if files is None else 'EntryNotFound')
        etag = hashlib.sha1(files[path]).hexdigest()
        self.answer(files[path], ETag=f'"{etag}"', X_Repo_Commit=commit_of(files))

    do_HEAD = do_GET

    def about(self, name, what='revision', revision='main'):
        if name not in REPOS:
            return self.missing('RepoNotFound')
        files = REPOS[name].get(revision)
        if files is None:
            return self.missing('RevisionNotFound')
        if what == 'tree':
            return self.answer([dict(type='file', path=p, size=len(b), oid=hashlib.sha1(b).hexdigest())
                                for p, b in files.items()])
        siblings = [dict(rfilename=path, size=len(content)) for path, content in files.items()]
        self.answer(dict(id=name, modelId=name, sha=commit_of(files), siblings=siblings, private=False, tags=[],
                         downloads=0, likes=0))


if __name__ == '__main__':
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    print(f'http://127.0.0.1:{server.server_port}', flush=True)
    sys.stdout.close()
    server.serve_forever()
