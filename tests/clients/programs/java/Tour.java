import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Parameter;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Collectors;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.AssetsApi;
import org.openapitools.client.api.DownloadsApi;
import org.openapitools.client.api.QuotasApi;
import org.openapitools.client.api.UploadsApi;
import org.openapitools.client.model.*;

/** The tour with the clients of openapi-generator for Java. What is its library's own is in Setup. */
public class Tour {
  public static void main(String[] arguments) throws Exception {
    String url = arguments[0];
    File photo = new File(arguments[1]);
    byte[] bytes = Files.readAllBytes(photo.toPath());
    AssetsApi assets = new AssetsApi(Setup.client(url));
    DownloadsApi downloads = new DownloadsApi(Setup.client(url));
    QuotasApi quotas = new QuotasApi(Setup.client(url));
    UploadsApi uploads = new UploadsApi(Setup.client(url));

    Asset uploaded = Setup.SENDS_FORMS
        ? ask(uploads, "uploadAsset", Map.of("file", photo, "projectId", "web", "metadata", "{\"album\":\"summer\"}"))
        : direct(uploads, bytes, request("photo.png", bytes).projectId("web").metadata(Map.of("album", "summer")));
    UUID id = uploaded.getId();
    AssetPage page = ask(assets, "listAssets", Map.of("projectId", "web", "sort", AssetSort.NAME, "limit", 1));
    DownloadLink link = ask(downloads, "createDownloadLink", Map.of("id", id, "expiresIn", 60));
    long linked = http.send(HttpRequest.newBuilder(link.getUrl()).build(), BodyHandlers.ofByteArray()).body().length;
    long content = Setup.READS_FILES ? ((File) ask(downloads, "downloadAsset", Map.of("id", id))).length() : linked;
    Asset renamed = ask(assets, "updateAsset", Map.of("id", id, "assetPatch", new AssetPatch().name("summer.png")));
    Asset cleared = ask(assets, "updateAsset", Map.of("id", id, "assetPatch", new AssetPatch().projectId("")));
    OwnQuota quota = ask(quotas, "getQuota", Map.of());
    ask(assets, "deleteAsset", Map.of("id", id));
    AssetPage trash = ask(assets, "listAssets", Map.of("trashed", true));
    Asset restored = ask(assets, "restoreAsset", Map.of("id", id));
    Asset direct = direct(uploads, bytes, request("direct.png", bytes));
    String problem = null;
    try {
      ask(assets, "getAsset", Map.of("id", UUID.fromString("019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1")));
    } catch (ApiException error) {
      problem = Setup.problem(error).getType();
    }

    String albums = uploaded.getMetadata().entrySet().stream()
        .map(entry -> text(entry.getKey()) + ":" + text(entry.getValue())).collect(Collectors.joining(","));
    System.out.println("{\"uploaded\":[" + text(uploaded.getName()) + "," + text(uploaded.getProjectId()) + ",{" + albums
        + "}," + text(uploaded.getState()) + "],\"page\":[" + page.getData().size() + "," + page.getPage().getHasMore()
        + "],\"linked\":" + linked + ",\"content\":" + content + ",\"renamed\":" + text(renamed.getName())
        + ",\"cleared\":" + text(cleared.getProjectId()) + ",\"quota\":" + quota.getUsed() + ",\"trash\":["
        + trash.getData().size() + "," + restored.getTrashedAt() + "],\"direct\":["
        + text(direct.getName()) + "," + text(direct.getState()) + "],\"problem\":" + text(problem) + "}");
    System.exit(0);
  }

  private static final HttpClient http = HttpClient.newHttpClient();

  private static UploadRequest request(String name, byte[] bytes) {
    return new UploadRequest().fileName(name).size((long) bytes.length).contentType("image/png");
  }

  private static Asset direct(UploadsApi uploads, byte[] bytes, UploadRequest request) throws Exception {
    UploadSession session = ask(uploads, "createUpload", Map.of("uploadRequest", request));
    for (PartLink part : session.getParts()) {
      int begin = (int) ((part.getPartNumber() - 1) * session.getPartSize());
      byte[] piece = Arrays.copyOfRange(bytes, begin, (int) (begin + part.getSize()));
      http.send(HttpRequest.newBuilder(part.getUrl()).PUT(HttpRequest.BodyPublishers.ofByteArray(piece)).build(),
          BodyHandlers.discarding());
    }
    return ask(uploads, "completeUpload", Map.of("id", session.getUploadId()));
  }

  /** Calls by names of parameters: an operation may get a new one that may be left out, and then its place moves. */
  @SuppressWarnings("unchecked")
  private static <Answer> Answer ask(Object api, String operation, Map<String, Object> given) throws Exception {
    for (Method method : api.getClass().getMethods()) {
      if (!method.getName().equals(operation)) continue;
      Object[] values = Arrays.stream(method.getParameters()).map(Parameter::getName).map(given::get).toArray();
      if (Arrays.stream(values).filter(value -> value != null).count() < given.size())
        throw new IllegalArgumentException(operation + " does not take " + given.keySet());
      try {
        return (Answer) method.invoke(api, values);
      } catch (InvocationTargetException error) {
        throw (Exception) error.getCause();
      }
    }
    throw new IllegalArgumentException("there is no operation " + operation);
  }

  private static String text(String value) {
    return value == null ? "null" : "\"" + value.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }
}
