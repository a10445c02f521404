// Projects with members, keys and tickets, with the client of openapi-generator for Go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"stowage"
)

var (
	url   = os.Args[1]
	photo = os.Args[2]
	none  = context.Background()
)

func clientOf(headers ...string) *stowage.APIClient {
	configuration := stowage.NewConfiguration()
	configuration.Servers = stowage.ServerConfigurations{{URL: url}}
	for at := 0; at < len(headers); at += 2 {
		configuration.AddDefaultHeader(headers[at], headers[at+1])
	}
	return stowage.NewAPIClient(configuration)
}

func must(err error) {
	if err == nil {
		return
	}
	if told, ok := err.(stowage.GenericOpenAPIError); ok {
		panic(string(told.Body()))
	}
	panic(err)
}

// The type of the problem that a call was refused with.
func refused(err error) interface{} {
	told, ok := err.(stowage.GenericOpenAPIError)
	if !ok {
		return nil
	}
	problem := struct{ Type string }{}
	must(json.Unmarshal(told.Body(), &problem))
	parts := strings.Split(problem.Type, ":")
	return parts[len(parts)-1]
}

func file() *os.File {
	opened, err := os.Open(photo)
	must(err)
	return opened
}

func main() {
	ann, ben := clientOf("x-user-id", "go-ann"), clientOf("x-user-id", "go-ben")
	request := stowage.NewProjectRequest("Team")
	request.SetMetadata(map[string]string{"color": "blue"})
	project, _, err := ann.ProjectsApi.CreateProject(none).ProjectRequest(*request).Execute()
	must(err)
	uploaded, _, err := ann.UploadsApi.UploadAsset(none).ProjectId(project.Id).File(file()).Execute()
	must(err)
	_, _, before := ben.AssetsApi.GetAsset(none, uploaded.Id).Execute()
	change := *stowage.NewProjectMemberChange(stowage.MEMBERROLE_EDITOR)
	member, _, err := ann.ProjectsApi.SetProjectMember(none, project.Id, "go-ben").ProjectMemberChange(change).Execute()
	must(err)
	members, _, err := ann.ProjectsApi.ListProjectMembers(none, project.Id).Execute()
	must(err)
	seen, _, err := ben.AssetsApi.ListAssets(none).ProjectId(project.Id).Execute()
	must(err)
	_, forbidden := ben.ProjectsApi.RemoveProjectMember(none, project.Id, "go-ann").Execute()
	patch := stowage.NewProjectPatch()
	patch.SetName("Crew")
	renamed, _, err := ann.ProjectsApi.UpdateProject(none, project.Id).ProjectPatch(*patch).Execute()
	must(err)
	_, last := ann.ProjectsApi.RemoveProjectMember(none, project.Id, "go-ann").Execute()
	_, err = ann.ProjectsApi.RemoveProjectMember(none, project.Id, "go-ben").Execute()
	must(err)
	_, _, after := ben.AssetsApi.GetAsset(none, uploaded.Id).Execute()

	wanted := *stowage.NewApiKeyRequest("backend", []stowage.Scope{stowage.SCOPE_ACT_FOR})
	key, _, err := ann.AccessApi.CreateApiKey(none).ApiKeyRequest(wanted).Execute()
	must(err)
	server := clientOf("authorization", "Bearer "+key.GetSecret(), "stowage-subject", "go-user")
	spoken, _, err := server.UploadsApi.UploadAsset(none).File(file()).Execute()
	must(err)
	keys, _, err := ann.AccessApi.ListApiKeys(none).Execute()
	must(err)
	_, err = ann.AccessApi.DeleteApiKey(none, key.Id).Execute()
	must(err)

	terms := stowage.NewUploadTicketRequest(600)
	terms.SetProjectId(project.Id)
	terms.SetMaxFiles(1)
	ticket, _, err := ann.AccessApi.CreateUploadTicket(none).UploadTicketRequest(*terms).Execute()
	must(err)
	page := clientOf("authorization", "Bearer "+ticket.GetToken())
	first, _, err := page.UploadsApi.UploadAsset(none).File(file()).Execute()
	must(err)
	_, _, second := page.UploadsApi.UploadAsset(none).File(file()).Execute()
	own, _, err := page.AssetsApi.ListAssets(none).ProjectId(project.Id).Execute()
	must(err)
	counted, _, err := ann.AccessApi.GetUploadTicket(none, ticket.Id).Execute()
	must(err)
	_, err = ann.AccessApi.DeleteUploadTicket(none, ticket.Id).Execute()
	must(err)
	_, _, gone := ann.AccessApi.GetUploadTicket(none, ticket.Id).Execute()

	type list = []interface{}
	told, err := json.Marshal(map[string]list{
		"project": {project.Name, project.Metadata, renamed.Name},
		"members": {member.Role, len(members.Data)},
		"seen":    {refused(before), len(seen.Data), seen.Data[0].UploadedBy, refused(forbidden), refused(last), refused(after)},
		"key":     {key.GetSecret()[:4], spoken.UploadedBy, len(keys.Data)},
		"ticket":  {ticket.GetToken()[:4], first.GetProjectId() == project.Id, refused(second), len(own.Data), counted.Files, refused(gone)},
	})
	must(err)
	fmt.Println(string(told))
}
