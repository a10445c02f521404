"""The tour with the client of openapi-generator for Python."""
import json
import sys
import urllib.request

client_path, url, photo = sys.argv[1:4]
sys.path.insert(0, client_path)
import openapi_client  # noqa: E402
from openapi_client.rest import ApiException  # noqa: E402

configuration = openapi_client.Configuration(host=url)
configuration.access_token = None
client = openapi_client.ApiClient(configuration)
client.set_default_header('x-user-id', 'python')
assets = openapi_client.AssetsApi(client)
downloads = openapi_client.DownloadsApi(client)
quotas = openapi_client.QuotasApi(client)
uploads = openapi_client.UploadsApi(client)
with open(photo, 'rb') as file:
    size = len(file.read())

uploaded = uploads.upload_asset(photo, project_id='web', metadata='{"album":"summer"}')
page = assets.list_assets(project_id='web', sort='name', limit=1)
link = downloads.create_download_link(uploaded.id, expires_in=60)
with urllib.request.urlopen(link.url) as answer:
    linked = len(answer.read())
# The client writes the bytes to a file and gives its path.
with open(downloads.download_asset(uploaded.id), 'rb') as file:
    content = len(file.read())
renamed = assets.update_asset(uploaded.id, openapi_client.AssetPatch(name='summer.png'))
cleared = assets.update_asset(uploaded.id, openapi_client.AssetPatch(project_id=''))
quota = quotas.get_quota()
assets.delete_asset(uploaded.id)
trash = assets.list_assets(trashed=True)
restored = assets.restore_asset(uploaded.id)
batch = uploads.upload_assets([photo, photo.replace('.png', '.jpg')])
request = openapi_client.UploadRequest(file_name='direct.png', size=size, content_type='image/png')
session = uploads.create_upload(request)
with open(photo, 'rb') as file:
    for part in session.parts:
        put = urllib.request.Request(part.url, data=file.read(part.size), method='PUT')
        urllib.request.urlopen(put).close()
direct = uploads.complete_upload(session.upload_id)
try:
    assets.get_asset('019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1')
    problem = None
except ApiException as error:
    problem = json.loads(error.body)['type']

print(json.dumps({
    'uploaded': [uploaded.name, uploaded.project_id, uploaded.metadata, uploaded.state],
    'page': [len(page.data), page.page.has_more],
    'linked': linked,
    'content': content,
    'renamed': renamed.name,
    'cleared': cleared.project_id,
    'quota': quota.used,
    'trash': [len(trash.data), restored.trashed_at],
    'batch': [result.status for result in batch.results],
    'direct': [direct.name, direct.state],
    'problem': problem,
}))
