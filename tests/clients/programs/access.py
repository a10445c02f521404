"""Projects with members, keys and tickets, with the client of openapi-generator for Python."""
import json
import sys

client_path, url, photo = sys.argv[1:4]
sys.path.insert(0, client_path)
import openapi_client  # noqa: E402
from openapi_client.rest import ApiException  # noqa: E402


def client_of(name, value):
    configuration = openapi_client.Configuration(host=url)
    configuration.access_token = None
    client = openapi_client.ApiClient(configuration)
    client.set_default_header(name, value)
    return client


def bearer(secret):
    return client_of('authorization', 'Bearer ' + secret)


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ApiException as error:
        return json.loads(error.body)['type'].split(':')[-1]
    return None


ann, ben = client_of('x-user-id', 'python-ann'), client_of('x-user-id', 'python-ben')
projects = openapi_client.ProjectsApi(ann)
access = openapi_client.AccessApi(ann)

project = projects.create_project(openapi_client.ProjectRequest(name='Team', metadata={'color': 'blue'}))
uploaded = openapi_client.UploadsApi(ann).upload_asset(photo, project_id=project.id)
before = refused(openapi_client.AssetsApi(ben).get_asset, uploaded.id)
member = projects.set_project_member(
    project.id, 'python-ben', openapi_client.ProjectMemberChange(role='editor'))
members = projects.list_project_members(project.id)
seen = openapi_client.AssetsApi(ben).list_assets(project_id=project.id)
forbidden = refused(openapi_client.ProjectsApi(ben).remove_project_member, project.id, 'python-ann')
renamed = projects.update_project(project.id, openapi_client.ProjectPatch(name='Crew'))
last = refused(projects.remove_project_member, project.id, 'python-ann')
projects.remove_project_member(project.id, 'python-ben')
after = refused(openapi_client.AssetsApi(ben).get_asset, uploaded.id)

key = access.create_api_key(openapi_client.ApiKeyRequest(name='backend', scopes=['act-for']))
server = bearer(key.secret)
server.set_default_header('stowage-subject', 'python-user')
spoken = openapi_client.UploadsApi(server).upload_asset(photo)
keys = access.list_api_keys()
access.delete_api_key(key.id)

ticket = access.create_upload_ticket(
    openapi_client.UploadTicketRequest(project_id=project.id, max_files=1, expires_in=600))
page = bearer(ticket.token)
first = openapi_client.UploadsApi(page).upload_asset(photo)
second = refused(openapi_client.UploadsApi(page).upload_asset, photo)
own = openapi_client.AssetsApi(page).list_assets(project_id=project.id)
counted = access.get_upload_ticket(ticket.id)
access.delete_upload_ticket(ticket.id)
gone = refused(access.get_upload_ticket, ticket.id)

print(json.dumps({
    'project': [project.name, project.metadata, renamed.name],
    'members': [member.role, len(members.data)],
    'seen': [before, len(seen.data), seen.data[0].uploaded_by, forbidden, last, after],
    'key': [key.secret[:4], spoken.uploaded_by, len(keys.data)],
    'ticket': [ticket.token[:4], first.project_id == project.id, second, len(own.data), counted.files, gone],
}))
