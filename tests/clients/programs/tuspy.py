"""Uploads a file by tuspy, from where the server says it is. Called with its URL, it goes on with an upload."""
import sys

from tusclient import client

service, path, known = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
tus = client.TusClient(service + '/v1/resumable', headers={'x-user-id': 'tuspy'})
metadata = {'filename': 'film.glb', 'filetype': 'model/gltf-binary'}
uploader = tus.uploader(path, chunk_size=1024 * 1024, metadata=metadata, url=known)
print(uploader.url, uploader.offset, flush=True)
while uploader.offset < uploader.get_file_size():
    uploader.upload_chunk()
    print(uploader.url, uploader.offset, flush=True)
